"""The list of cases. A case is a function of a context, with a name and the section it checks."""

BOTH = ("server", "client")
SERVER = ("server",)
CLIENT = ("client",)


class Case:
    def __init__(self, name, section, role, function, arguments, scale):
        self.name = f"{role}/{name}"
        self.section, self.role, self.scale = section, role, scale
        self.function, self.arguments = function, arguments

    def run(self, context):
        self.function(context, *self.arguments)


CASES = []


def case(name, section, roles=BOTH, each=None, scale=1):
    """Registers a function, or with `each` one case per (label, arguments...) of it. `scale`
    stretches the time that a case may take."""

    def register(function):
        for row in [("",)] if each is None else each:
            label, *arguments = row if isinstance(row, tuple) else (row, row)
            full = name.format(label) if "{}" in name else name
            for role in roles:
                CASES.append(Case(full, section, role, function, arguments, scale))
        return function

    return register

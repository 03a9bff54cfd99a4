"""A strict reader of Prometheus' text exposition format, version 0.0.4, and the rules of naming that
`promtool check metrics` holds it to."""
import math
import re

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
NUMBER = re.compile(r"(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN)\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
# Units that have a base unit to be used instead, and prefixes of units.
NOT_BASE = re.compile(r"(?:^|_)(?:milli|micro|nano|kilo|mega|giga)?"
                      r"(?:ms|us|ns|minutes?|hours?|days?|millis|milliseconds|microseconds|nanoseconds|"
                      r"kilobytes|kb|mb|kib|mib|bits)(?:_|$)")


class Malformed(Exception):
    pass


def check(condition, line, why):
    if not condition:
        raise Malformed(f"{why}: {line!r}")


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.type = name, help_text, None
        self.series = {}  # (sample name, labels as a sorted tuple) -> value

    def names(self):
        if self.type == "histogram":
            return {self.name + end for end in ("_bucket", "_sum", "_count")}
        return {self.name}


def labels_of(text, line):
    labels, at = [], 0
    while at < len(text):
        match = LABEL.match(text, at)
        check(match, line, "malformed label")
        labels.append((match.group(1), re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]),
                                              match.group(2))))
        at = match.end()
        if at < len(text):
            check(text[at] == ",", line, "no comma between labels")
            at += 1
    check(len({name for name, _ in labels}) == len(labels), line, "repeated label")
    return tuple(sorted(labels))


def parse(text):
    """Families by name; raises Malformed."""
    check(text.endswith("\n"), text[-50:], "the last line has no end")
    families, current = {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, help_text = line[7:].partition(" ")
            check(NAME.match(name), line, "bad name")
            check(name not in families, line, "a family in two places")
            check(current is None or current.series, line, "a family without series before")
            current = families[name] = Family(name, help_text)
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            check(current and name == current.name, line, "TYPE without its HELP before")
            check(current.type is None and not current.series, line, "TYPE twice or late")
            check(kind in TYPES, line, "unknown type")
            current.type = kind
        else:
            match = re.match(r"([^{ ]+)(?:\{([^}]*(?:\"[^\"]*\"[^}]*)*)\})? (\S+)\Z", line)
            check(match, line, "no sample")
            name, labels, value = match.group(1), match.group(2), match.group(3)
            check(current and current.type, line, "sample before HELP and TYPE")
            check(name in current.names(), line, f"sample of another family than {current.name}")
            check(NUMBER.match(value), line, "bad value")
            key = name, labels_of(labels or "", line)
            check(key not in current.series, line, "duplicate series")
            current.series[key] = float(value.replace("Inf", "inf"))
    check(current is None or current.series, text[-50:], "a family without series")
    for family in families.values():
        if family.type == "histogram":
            check_histogram(family)
    return families


def check_histogram(family):
    groups = {}
    for (name, labels), value in family.series.items():
        rest = tuple(label for label in labels if label[0] != "le")
        group = groups.setdefault(rest, {"buckets": []})
        if name.endswith("_bucket"):
            group["buckets"].append((float(dict(labels)["le"].replace("Inf", "inf")), value))
        else:
            group[name.rpartition("_")[2]] = value
    for group in groups.values():
        bounds = [bound for bound, _ in group["buckets"]]
        counts = [count for _, count in group["buckets"]]
        check(bounds == sorted(set(bounds)), family.name, "buckets out of order")
        check(bounds and bounds[-1] == math.inf, family.name, "no +Inf bucket")
        check(counts == sorted(counts), family.name, "buckets that are not cumulative")
        check(counts[-1] == group.get("count"), family.name, "+Inf differs from the count")
        check("sum" in group, family.name, "no sum")


def lint(families):
    """What promtool would complain about, as sentences."""
    problems = []
    for family in families.values():
        def say(what):
            problems.append(f"{family.name}: {what}")
        name = family.name
        if not family.help.strip():
            say("no help")
        if family.type == "counter" and not name.endswith("_total"):
            say("a counter ends in _total")
        if family.type != "counter" and name.endswith("_total"):
            say("only a counter ends in _total")
        if name.endswith(("_count", "_sum", "_bucket")):
            say("ends as a sample of a histogram does")
        if name != name.lower() or "__" in name or re.search(r"[A-Z]", name):
            say("not snake_case")
        if family.type and re.search(r"(?:^|_)(?:counter|gauge|histogram|summary)(?:_|$)", name):
            say("its type in its name")
        if NOT_BASE.search(name):
            say("no base unit")
        for unit in ("seconds", "bytes"):
            if unit in name and not re.search(rf"_{unit}(?:_total)?\Z", name):
                say(f"its unit ({unit}) is not at its end")
        for (_, labels) in family.series:
            for label, _ in labels:
                if label == "le" and family.type != "histogram" or label.startswith("__"):
                    say(f"reserved label {label}")
                if label in name.split("_"):
                    say(f"label {label} repeats a part of the name")
    return problems

"""The programs in a page of the documentation.

page.py split PAGE DIRECTORY   writes each as DIRECTORY/<page>_<number>.cpp, with what it prints beside it
                               as .txt, and names them
page.py together DIRECTORY NAME...
                               writes them once more, several to a file, as one program that takes the
                               name of the one to run, and names the files
page.py run OUTPUT COMMAND...  runs one; it must succeed and print OUTPUT, if that file exists
"""
import pathlib
import re
import subprocess
import sys

PATIENCE = 90  # seconds; only what hangs meets it
TOGETHER = 7  # programs in one file: what they share of templates is compiled once


def write(path, text):
    """Leaves an unchanged file alone, so that nothing is built again for it."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def split(page, directory):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$(?=(\n+```text\n(.*?)^```$)?)", page.read_text(),
                        re.MULTILINE | re.DOTALL)
    names = []
    for language, block, follows, output in fences:
        if language != "cpp" or "int main(" not in block:
            continue
        name = f"{page.stem}_{len(names) + 1}"
        write(directory / f"{name}.cpp", block)
        expected = directory / f"{name}.txt"
        if follows:
            write(expected, output)
        else:
            expected.unlink(missing_ok=True)
        names.append(name)
    return names


def body(path):
    """A program as the content of a namespace, on the lines where it was, and what it includes."""
    includes = []
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("#include "):
            includes.append(line)
            line = ""
        elif line.startswith("#"):
            sys.exit(f"{path}: has to be compiled alone for '{line}'")
        lines.append(line)
    start = next(n for n, line in enumerate(lines) if line.startswith("int main("))
    end = lines.index("}", start)
    lines[end] = "return 0; }"  # only ::main returns by itself
    return includes, "\n".join(lines)


def together(directory, names):
    files = []
    for first in range(0, len(names), TOGETHER):
        includes = set()
        text = ""
        for name in names[first:first + TOGETHER]:
            source = directory / f"{name}.cpp"
            needs, program = body(source)
            includes.update(needs)
            text += f'namespace docs_{name} {{\n#line 1 "{source}"\n{program}\n}}\n'
        files.append(directory / f"together_{len(files) + 1}.cpp")
        write(files[-1], "\n".join(sorted(includes)) + "\n" + text)
    files.append(directory / "together.cpp")
    write(files[-1], "#include <string_view>\n"
          + "".join(f"namespace docs_{name} {{ int main(); }}\n" for name in names)
          + "int main(int argc, char **argv) {\n"
          + "  const std::string_view name = argc == 2 ? argv[1] : \"\";\n"
          + "".join(f'  if (name == "{name}")\n    return docs_{name}::main();\n' for name in names)
          + "  return 2;\n}\n")
    return [str(file) for file in files]


def run(expected, command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          timeout=PATIENCE, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode} and printed:\n{done.stdout}")
    if expected.exists() and done.stdout != expected.read_text():
        sys.exit(f"{' '.join(command)} printed:\n{done.stdout}\ninstead of:\n{expected.read_text()}")


if __name__ == "__main__":
    if sys.argv[1] == "split":
        print(" ".join(split(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))))
    elif sys.argv[1] == "together":
        print(";".join(together(pathlib.Path(sys.argv[2]), sys.argv[3:])))
    else:
        run(pathlib.Path(sys.argv[2]), sys.argv[3:])

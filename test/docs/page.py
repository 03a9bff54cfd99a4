"""The programs in a page of the documentation.

page.py split PAGE DIRECTORY   writes each as DIRECTORY/<page>_<number>.cpp, with what it prints beside it
                               as .txt, and names them
page.py run PROGRAM OUTPUT     runs one; it must succeed and print OUTPUT, if that file exists
"""
import pathlib
import re
import subprocess
import sys

PATIENCE = 90  # seconds; only what hangs meets it


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


def run(program, expected):
    done = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          timeout=PATIENCE, check=False)
    if done.returncode != 0:
        sys.exit(f"{program} ended with {done.returncode} and printed:\n{done.stdout}")
    if expected.exists() and done.stdout != expected.read_text():
        sys.exit(f"{program} printed:\n{done.stdout}\ninstead of:\n{expected.read_text()}")


if __name__ == "__main__":
    if sys.argv[1] == "split":
        print(" ".join(split(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))))
    else:
        run(sys.argv[2], pathlib.Path(sys.argv[3]))

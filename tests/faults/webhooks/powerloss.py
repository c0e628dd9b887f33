"""A power cut for a process that was started with the shim: every write that no fsync has covered is undone.

`python powerloss.py build FOLDER` compiles the shim and prints where it is; `python powerloss.py cut LOG` undoes, and
prints how many writes it has undone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("powerloss.c")


class Write(NamedTuple):
    path: str
    offset: int
    size: int
    old: bytes


def build(folder: Path) -> Path:
    """The shim, compiled; the compiler is installed where there is none."""
    if shutil.which("cc") is None:
        subprocess.run(["apt-get", "update"], check=True, capture_output=True, timeout=300)
        install = ["apt-get", "install", "-y", "--no-install-recommends", "gcc", "libc6-dev"]
        subprocess.run(install, check=True, capture_output=True, timeout=600)
    library = folder / "powerloss.so"
    command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return library


def cut(log: Path) -> int:
    """Undo, newest first; how many writes were undone."""
    uncovered: list[Write] = []
    raw, place = log.read_bytes(), 0
    while (end := raw.find(b"\n", place)) >= 0:
        kind, *numbers = raw[place:end].split()
        path_length, offset, size, length = map(int, numbers)
        path_end = end + 1 + path_length
        place = path_end + length
        if place > len(raw):
            break  # killed while it was being written: its write never began
        path = raw[end + 1 : path_end].decode()
        if kind == b"S":
            uncovered = [each for each in uncovered if each.path != path]
        else:
            uncovered.append(Write(path, offset, size, raw[path_end:place]))
    for each in reversed(uncovered):
        with Path(each.path).open("r+b") as file:
            file.seek(each.offset)
            file.write(each.old)
            file.truncate(each.size)
    for shared in {f"{each.path.removesuffix('-wal')}-shm" for each in uncovered}:
        Path(shared).unlink(missing_ok=True)
    return len(uncovered)


if __name__ == "__main__":
    print({"build": build, "cut": cut}[sys.argv[1]](Path(sys.argv[2])))

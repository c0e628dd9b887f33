"""`-` for the table that comes in and the table that goes out.

A table is gone through twice, and written whole: so what comes in is kept in a temporary folder first, and what goes
out is written there and copied once it is complete.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

STREAM = "-"


@contextmanager
def spooled(file: str, out: str | None, format: str | None) -> Generator[tuple[str, str | None]]:
    """The two addresses to use, where `-` may stand for standard input and standard output; CSV where no format says
    otherwise."""
    if STREAM not in (file, out):
        yield file, out
        return
    with tempfile.TemporaryDirectory(prefix="classifaily-") as folder:
        ending = format or "csv"
        source, target = Path(folder, f"stdin.{ending}"), Path(folder, f"stdout.{ending}")
        if file == STREAM:
            with source.open("wb") as kept:
                shutil.copyfileobj(sys.stdin.buffer, kept, 1 << 20)
        yield (str(source) if file == STREAM else file), (str(target) if out == STREAM else out)
        if out == STREAM and target.exists():
            with target.open("rb") as made:
                shutil.copyfileobj(made, sys.stdout.buffer, 1 << 20)

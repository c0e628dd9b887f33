"""Files that give their bytes only once: a named pipe, the shell's `<(…)`, a standard input that is piped.

The law of this file: a table is gone through more than once, so such bytes are copied first, and the copy is read.
"""

from __future__ import annotations

import hashlib
import stat
import tempfile
from pathlib import Path

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import LocalPlace, Place


class _Copy(LocalPlace):
    """What came out of a pipe; it is gone when nobody holds it any more."""

    def __init__(self, pipe: LocalPlace) -> None:
        self._pipe, self._digest = pipe, hashlib.blake2b(digest_size=16)
        self._file = tempfile.NamedTemporaryFile(prefix="classifaily-")  # noqa: SIM115  # it lives as long as we do
        with pipe.open() as source:
            while part := source.read(1 << 20):
                self._digest.update(part)
                self._file.write(part)
        self._file.flush()
        super().__init__(Path(self._file.name))
        self.name = pipe.name

    @property
    def base(self) -> str:
        return self._pipe.base

    @property
    def folder(self) -> LocalPlace:
        return self._pipe.folder

    def version(self) -> str:
        return self._digest.hexdigest()


def read_once(place: Place) -> Place:
    """The place, or a copy of what comes out of it where it gives that only once.

    Raises InvalidRequestError for what is no file, such as a terminal.
    """
    if not isinstance(place, LocalPlace):
        return place
    try:
        mode = place.path.stat().st_mode
    except OSError:
        return place  # opening it says what is wrong
    if stat.S_ISFIFO(mode):
        return _Copy(place)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise refuse(f"{place.name} is no file, but a device or socket: save the table to a file first")
    return place

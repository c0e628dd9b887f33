"""A half-written output, kept beside the one it will be: what a killed run has landed, the next one need not redo.

The law of this file: a part counts once its note exists, and the note is written last. A part belongs to exactly one
input and one set of options: when either changes, all parts go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from classifaily_connectors.bulk.rows import STATUSES
from classifaily_connectors.errors import StorageError
from classifaily_connectors.places import LocalPlace

if TYPE_CHECKING:
    from classifaily_connectors.places import Place, Produce

_LAYOUT = 1
_MANIFEST, _PART, _NOTE = "manifest.json", ".part", ".note"
_UNSETTLED = ("unknown", "uncovered")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `start` up to but not including `stop`, and how many ended how."""

    start: int
    stop: int
    statuses: dict[str, int]
    labels: dict[str, int] = field(default_factory=dict[str, int])
    routes: dict[str, int] = field(default_factory=dict[str, int])
    run: str = ""

    @property
    def stem(self) -> str:
        """The common beginning of its two files."""
        return f"{self.start:012d}-{self.stop:012d}{f'-{self.run}' if self.run else ''}"

    @property
    def settled(self) -> bool:
        """Whether no row of it can fare better in another run."""
        return not any(self.statuses.get(status) for status in _UNSETTLED)

    def note(self) -> bytes:
        """What the note says."""
        return json.dumps([self.start, self.stop, self.statuses, self.labels, self.routes, self.run]).encode()


class Parts:
    """The parts of one output, in the folder `.NAME.parts` beside it; `run` tells this run's from every other's."""

    def __init__(self, output: Place) -> None:
        self.folder = output.beside(f".{output.base}.parts")
        self._output = output.name
        self._rescue: LocalPlace | None = None
        self._lie: dict[str, Place] = {}
        """The folder of each part that lies elsewhere, by its stem."""
        self.kept: list[Part] = []
        self.earlier: tuple[Part, ...] = ()
        """Those that were there when we began."""
        self._run = uuid.uuid4().hex[:12]

    def open(self, fingerprint: str | None, *, unsettled: bool) -> None:
        """Keep what an earlier run with the same fingerprint has landed, parts with `unsettled` rows only if told."""
        manifest = json.dumps({"layout": _LAYOUT, "fingerprint": fingerprint}).encode()
        self._rescue = _rescue_folder(self._output, fingerprint)
        names = self.folder.names()
        if fingerprint is None or _MANIFEST not in names or _read(self.folder.child(_MANIFEST)) != manifest:
            self.remove()
            if isinstance(self.folder, LocalPlace):
                self.folder.make_private()
            self.folder.child(_MANIFEST).write(lambda file: _put(file, manifest))
            if fingerprint is None:
                return
            names = []
        found = [(self.folder, name) for name in names]
        if self._rescue is not None:
            found += [(self._rescue, name) for name in self._rescue.names()]
        stop = 0
        for folder, name in sorted(found, key=lambda each: each[1]):
            if name.endswith(_NOTE):
                part = Part(*json.loads(_read(folder.child(name))))
                self._lie[part.stem] = folder
                if part.start < stop or not (part.settled or unsettled):  # overlapped, or to be done again
                    self._drop(part)
                else:
                    self.kept.append(part)
                    stop = part.stop
        self.earlier = tuple(self.kept)

    def add(self, part: Part, produce: Produce) -> None:
        """Make `part` durable.

        Raises StorageError when it cannot be kept here. The part is then kept in a folder for temporary files, where
        the next run of the same table finds it.
        """
        part = replace(part, run=self._run)
        try:
            self._write(self.folder, part, produce)
        except StorageError as error:
            if self._rescue is None:
                raise
            try:
                self._rescue.make_private()
                self._write(self._rescue, part, produce)
            except StorageError:
                raise error from None
            raise StorageError(
                f"{error.message}. The {part.stop - part.start:,} rows that were to be written are kept in "
                f"{self._rescue.name}, and the next run of this table takes them from there",
                place=error.place,
            ) from None

    def _write(self, folder: Place, part: Part, produce: Produce) -> None:
        folder.child(f"{part.stem}{_PART}").write(produce)
        note = part.note()
        folder.child(f"{part.stem}{_NOTE}").write(lambda file: _put(file, note))
        self._lie[part.stem] = folder
        self.kept.append(part)

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Which rows of this range no part holds."""
        found: list[tuple[int, int]] = []
        for part in self.earlier:
            if part.stop <= start:
                continue
            if part.start >= stop:
                break
            if part.start > start:
                found.append((start, part.start))
            start = max(start, part.stop)
        if start < stop:
            found.append((start, stop))
        return found

    def files(self) -> list[Place]:
        """The parts, in the order of their rows."""
        return [self._file(part, _PART) for part in sorted(self.kept, key=lambda part: part.start)]

    def remove(self) -> None:
        """Nothing is half-written any more. What others keep in the folder stays, and the folder with it."""
        for folder in (self.folder, self._rescue):
            if folder is not None:
                for name in folder.names():
                    if name == _MANIFEST or name.endswith((_PART, _NOTE, ".tmp")):
                        folder.child(name).remove()
                folder.remove()

    def remove_unused(self) -> None:
        """The run ended before anything landed: leave nothing behind."""
        if not self.kept:
            with contextlib.suppress(StorageError):
                self.remove()

    def _drop(self, part: Part) -> None:
        self._file(part, _NOTE).remove()
        self._file(part, _PART).remove()

    def _file(self, part: Part, ending: str) -> Place:
        return self._lie[part.stem].child(f"{part.stem}{ending}")


def _rescue_folder(output: str, fingerprint: str | None) -> LocalPlace | None:
    """Where parts go that their own folder does not take; None where that folder is not ours alone."""
    digest = hashlib.blake2b(f"{output}|{fingerprint or uuid.uuid4()}".encode(), digest_size=8).hexdigest()
    path = Path(tempfile.gettempdir()) / f"classifaily-{os.getuid()}-{digest}.parts"
    try:
        found = path.lstat()
    except OSError:
        return LocalPlace(path)
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return LocalPlace(path) if ours else None


def tally(start: int, stop: int) -> Part:
    """An empty count for these rows."""
    return Part(start, stop, dict.fromkeys(STATUSES, 0))


def _read(place: Place) -> bytes:
    with place.open() as file:
        return file.read()


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)

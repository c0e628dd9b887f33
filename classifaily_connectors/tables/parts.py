"""A half-written output, kept beside the one it will be: what a killed run has landed, the next one need not redo.

The law of this file: a part counts once its note exists, and the note is written last. A part belongs to exactly one
input and one set of options: when either changes, all parts go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from classifaily_connectors.bulk.rows import STATUSES

if TYPE_CHECKING:
    from classifaily_connectors.places import Place, Produce

_LAYOUT = 1
_UNSETTLED = ("unknown", "uncovered")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows `start` up to but not including `stop`, and how many ended how."""

    start: int
    stop: int
    statuses: dict[str, int]
    labels: dict[str, int] = field(default_factory=dict[str, int])
    routes: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def stem(self) -> str:
        """The common beginning of its two files."""
        return f"{self.start:012d}-{self.stop:012d}"

    @property
    def settled(self) -> bool:
        """Whether no row of it can fare better in another run."""
        return not any(self.statuses.get(status) for status in _UNSETTLED)

    def note(self) -> bytes:
        """What the note says."""
        return json.dumps([self.start, self.stop, self.statuses, self.labels, self.routes]).encode()


class Parts:
    """The parts of one output, in the folder `.NAME.parts` beside it."""

    def __init__(self, output: Place) -> None:
        self.folder = output.beside(f".{output.base}.parts")
        self.kept: list[Part] = []
        self.earlier: tuple[Part, ...] = ()
        """Those that were there when we began."""

    def open(self, fingerprint: str | None, *, unsettled: bool) -> None:
        """Keep what an earlier run with the same fingerprint has landed, parts with `unsettled` rows only if told."""
        manifest = json.dumps({"layout": _LAYOUT, "fingerprint": fingerprint}).encode()
        names = self.folder.names()
        if fingerprint is None or "manifest.json" not in names or _read(self.folder.child("manifest.json")) != manifest:
            self.folder.remove()
            self.folder.child("manifest.json").write(lambda file: _put(file, manifest))
            return
        stop = 0
        for name in names:
            if name.endswith(".note"):
                part = Part(*json.loads(_read(self.folder.child(name))))
                if part.start < stop or not (part.settled or unsettled):  # overlapped, or to be done again
                    self._drop(part)
                else:
                    self.kept.append(part)
                    stop = part.stop
        self.earlier = tuple(self.kept)

    def add(self, part: Part, produce: Produce) -> None:
        """Make `part` durable."""
        self.folder.child(f"{part.stem}.part").write(produce)
        note = part.note()
        self.folder.child(f"{part.stem}.note").write(lambda file: _put(file, note))
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
        return [self.folder.child(f"{part.stem}.part") for part in sorted(self.kept, key=lambda part: part.start)]

    def remove(self) -> None:
        """Nothing is half-written any more."""
        self.folder.remove()

    def _drop(self, part: Part) -> None:
        self.folder.child(f"{part.stem}.note").remove()
        self.folder.child(f"{part.stem}.part").remove()


def tally(start: int, stop: int) -> Part:
    """An empty count for these rows."""
    return Part(start, stop, dict.fromkeys(STATUSES, 0))


def _read(place: Place) -> bytes:
    with place.open() as file:
        return file.read()


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)

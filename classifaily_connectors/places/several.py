"""The files behind a folder or a pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from classifaily_connectors.places.base import storage_errors
from classifaily_connectors.places.local import LocalPlace
from classifaily_connectors.places.remote import WEB, RemotePlace

if TYPE_CHECKING:
    from classifaily_connectors.places.base import Place

_PATTERN = "*?["
Files = list[tuple[str, "Place"]]
"""Each file's path below what all have in common, with `/` between folders, and the file."""


def files_at(place: Place) -> Files | None:
    """The files in a folder, its own folders' included, or those that match a pattern; None for a single file.

    What exists under its name is that, whatever letters the name has.
    """
    with storage_errors(place.name, "listed"):
        if isinstance(place, LocalPlace):
            return _local(place.path)
        return _remote(place) if isinstance(place, RemotePlace) and place.scheme not in WEB else None


def _local(path: Path) -> Files | None:
    text = str(path)
    if path.is_dir():
        return _below(text, [Path(folder, name) for folder, _folders, names in os.walk(path) for name in names])
    if path.exists() or not any(each in text for each in _PATTERN):
        return None
    found = map(Path, glob.glob(text, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute pattern
    return _below(_fixed(text, os.sep), [each for each in found if each.is_file()])


def _below(folder: str, paths: list[Path]) -> Files:
    return [(Path(os.path.relpath(each, folder)).as_posix(), LocalPlace(each)) for each in paths]


def _remote(place: RemotePlace) -> Files | None:
    fs, path = place.fs, place.path
    fs.invalidate_cache()
    if fs.isfile(path):
        return None
    if fs.isdir(path):
        folder, found = path, fs.find(path)
    elif any(each in path for each in _PATTERN):
        folder, found = _fixed(path, "/"), [each for each in fs.glob(path) if fs.isfile(each)]
    else:
        return None
    start = len(folder.strip("/")) + 1 if folder.strip("/") else 0
    return [(str(each).strip("/")[start:], RemotePlace(fs, str(each), place.scheme)) for each in found]


def _fixed(pattern: str, separator: str) -> str:
    """The folders before the first that is a pattern."""
    parts = pattern.split(separator)
    first = next(place for place, part in enumerate(parts) if any(each in part for each in _PATTERN))
    return separator.join(parts[:first]) or (separator if pattern.startswith(separator) else ".")

"""Paths that bring their file system along, and with it the credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from classifaily_connectors.places import LocalPlace, RemotePlace, is_address, place_of


class ObjectPath:
    """What universal_pathlib's paths have in common."""

    def __init__(self, protocol: str, path: str) -> None:
        self._protocol, self._path = protocol, path

    @property
    def protocol(self) -> str:
        return self._protocol

    @property
    def path(self) -> str:
        return self._path

    @property
    def fs(self) -> Any:
        return fsspec.filesystem(self.protocol or "file")


def test_its_own_file_system_is_used() -> None:
    place = place_of(ObjectPath("memory", "/bucket/tickets.csv"))
    assert isinstance(place, RemotePlace)
    place.write(lambda file: file.write(b"body\n"))
    assert fsspec.filesystem("memory").cat("/bucket/tickets.csv") == b"body\n"
    assert place.name == "memory://bucket/tickets.csv"
    place.remove()


def test_a_local_one_is_a_local_place(tmp_path: Path) -> None:
    for protocol in ("", "file"):
        place = place_of(ObjectPath(protocol, str(tmp_path / "tickets.csv")))
        assert isinstance(place, LocalPlace)
        assert place.path == tmp_path / "tickets.csv"


def test_a_frame_with_such_columns_is_no_address() -> None:
    class Frame:
        def __getattr__(self, name: str) -> str:
            return f"column {name}"

    assert is_address(ObjectPath("memory", "/x"))
    assert not is_address(Frame())

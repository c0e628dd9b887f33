"""Tables that are broken, and storage that breaks under them; its addresses are signed."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.sweep.stage import PASSWORD, SIGNATURE, TABLE, Stage


def _put(stage: Stage, name: str, content: bytes) -> None:
    stage.source = stage.folder / name
    stage.source.write_bytes(content)


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": range(5000), "body": [f"text {n}" for n in range(5000)]}), buffer)
    return buffer.getvalue()


_JUNK = bytes(range(256)) * 16
_ENDINGS = ("tsv", "jsonl.zst", "csv.xz", "csv.bz2")


def _junk(ending: str) -> tuple[str, bytes]:
    return f"in.{ending}", _JUNK


_LINES = "".join(json.dumps(each) + "\n" for each in TABLE).encode()
_BROKEN: dict[str, Callable[[], tuple[str, bytes]]] = {
    "an empty CSV": lambda: ("in.csv", b""),
    "junk for CSV": lambda: ("in.csv", _JUNK),
    "junk for JSONL": lambda: ("in.jsonl", _JUNK),
    "junk for JSON": lambda: ("in.json", _JUNK),
    "junk for Excel": lambda: ("in.xlsx", _JUNK),
    "junk for gzip": lambda: ("in.jsonl.gz", _JUNK),
    "junk for Parquet": lambda: ("in.parquet", b"PAR1" + _JUNK + b"PAR1"),
    "a cut Parquet": lambda: ("in.parquet", _parquet()[:-300]),
    "a spoilt Parquet": lambda: ("in.parquet", _parquet()[:400] + b"\xff" * 200 + _parquet()[600:]),
    "a cut gzip": lambda: ("in.jsonl.gz", gzip.compress(_LINES * 50)[:-40]),
    "a cut line": lambda: ("in.jsonl", _LINES[:-20]),
    "a line that is none": lambda: ("in.jsonl", _LINES + b"[1]\n"),
    "a ragged CSV": lambda: ("in.csv", b"id,body\n1,a\n2,b,c\n"),
    "a CSV of another encoding": lambda: ("in.csv", "id,body\n1,é\n".encode("cp1252")),
    "a missing column": lambda: ("in.csv", b"id,text\n1,a\n"),
    "an unknown ending": lambda: ("in.docx", b"PK"),
    **{f"junk for {ending}": partial(_junk, ending) for ending in _ENDINGS},
}


def _broken(make: Callable[[], tuple[str, bytes]]) -> Callable[[Stage], None]:
    return lambda stage: _put(stage, *make())


def _missing(stage: Stage) -> None:
    stage.source = stage.folder / "no such table.csv"


def _a_disk_that_fails(stage: Stage) -> None:
    """What the system reads there is answered with EIO, as of a broken disk."""
    stage.source = stage.folder / "in.csv"
    stage.source.symlink_to("/proc/self/mem")


def _an_empty_folder(stage: Stage) -> None:
    stage.source = stage.folder / "folder"
    stage.source.mkdir(exist_ok=True)


def _rows_that_are_none(stage: Stage) -> None:
    stage.source = [{"body": "text"}, 7, None]


def _is(source: Any) -> Callable[[Stage], None]:
    def put(stage: Stage) -> None:
        stage.source = source

    return put


_NO_SOURCES: dict[str, Any] = {
    "a number": 17,
    "an object": object(),
    "numbers": [1, 2, 3],
    "a text": "body",
    "a mapping": {"body": "text"},
    "too long a name": "x" * 5000 + ".csv",
    "a zero byte": "a\0b.csv",
    "a URL that needs a package": f"github://user:{PASSWORD}@repo/in.csv?sig={SIGNATURE}",
}


def _a_file_url_with_a_host(stage: Stage) -> None:
    stage.source = f"file://user:{PASSWORD}@host/in.csv"


def _an_unknown_scheme(stage: Stage) -> None:
    stage.source = f"nowhere://user:{PASSWORD}@host/in.csv?sig={SIGNATURE}"


SOURCES: dict[str, Callable[[Stage], None]] = {
    **{name: _broken(make) for name, make in _BROKEN.items()},
    "nothing there": _missing,
    "a disk that fails": _a_disk_that_fails,
    "an empty folder": _an_empty_folder,
    "rows that are none": _rows_that_are_none,
    "a file URL with a host": _a_file_url_with_a_host,
    "an unknown scheme": _an_unknown_scheme,
    **{name: _is(source) for name, source in _NO_SOURCES.items()},
}
"""Sources that cannot be labelled."""


def _in_a_file(stage: Stage) -> None:
    (stage.folder / "a file").touch()
    stage.output = stage.folder / "a file" / "out.csv"


def _a_folder(stage: Stage) -> None:
    stage.output = stage.folder


def _a_device(stage: Stage) -> None:
    stage.output = Path("/dev/full")


def _not_to_be_made(stage: Stage) -> None:
    stage.output = Path("/proc/no-such-place/out.csv")


def _goes_to(output: Any) -> Callable[[Stage], None]:
    def put(stage: Stage) -> None:
        stage.output = output

    return put


_NO_OUTPUTS: dict[str, Any] = {
    "an unknown ending": "out.docx",
    "an unknown scheme": f"nowhere://user:{PASSWORD}@host/out.csv?sig={SIGNATURE}",
    "too long a name": "/tmp/" + "x" * 300 + ".csv",
    "a zero byte": "a\0b.csv",
    "a number": 17,
}


def _the_source_itself(stage: Stage) -> None:
    stage.output = stage.source


OUTPUTS: dict[str, Callable[[Stage], None]] = {
    "in a file": _in_a_file,
    "a folder": _a_folder,
    "a device": _a_device,
    "where nothing can be made": _not_to_be_made,
    "the source itself": _the_source_itself,
    **{name: _goes_to(output) for name, output in _NO_OUTPUTS.items()},
}
"""Outputs that cannot be written."""


class Storage(fsspec.AbstractFileSystem):  # type: ignore[misc]  # ships no types
    """A storage whose errors repeat the address that was asked for, signature and all, as those of HTTP clients do."""

    protocol = ("https", "signed")
    cachable = False
    objects: ClassVar[dict[str, bytes]] = {}
    fails_at: ClassVar[str] = ""
    error: ClassVar[type[Exception]] = ConnectionError

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(path)

    def fail_at(self, step: str, path: object) -> None:
        """Fail, if this is the step to fail at."""
        if step == Storage.fails_at:
            raise Storage.error(f"503, message='Slow Down', url={path}")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self.fail_at("info", path)
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "type": "file", "size": len(self.objects[path]), "ETag": str(hash(self.objects[path]))}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self.fail_at("list", path)
        found = [each for each in self.objects if each.startswith(f"{path}/")]
        return [self.info(each) for each in found] if detail else found

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        self.fail_at("open" if "r" in mode else "create", path)
        if "r" in mode and path not in self.objects:
            raise FileNotFoundError(path)
        if "r" in mode:
            return io.BufferedReader(_Object(self, path, self.objects[path], new=False))
        return _Object(self, path, b"", new=True)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        self.fail_at("move", path1)
        self.objects[path2] = self.objects[path1]

    def rm_file(self, path: str) -> None:
        self.fail_at("remove", path)
        self.objects.pop(path, None)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass


class _Object(io.RawIOBase):
    """One object, open for reading or for writing; what was written is there once it is closed."""

    def __init__(self, storage: Storage, path: str, content: bytes, *, new: bool) -> None:
        self._storage, self._path, self._new = storage, path, new
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return not self._new

    def seekable(self) -> bool:
        return not self._new

    def writable(self) -> bool:
        return self._new

    def readinto(self, buffer: Any) -> int:
        self._storage.fail_at("read", self._path)
        return self._content.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()

    def write(self, data: Any) -> int:
        self._storage.fail_at("write", self._path)
        return self._content.write(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._new:
                self._storage.fail_at("close", self._path)
                Storage.objects[self._path] = self._content.getvalue()


READING, WRITING = ("info", "open", "read"), ("create", "write", "close", "move")
ERRORS: tuple[type[Exception], ...] = (ConnectionError, PermissionError, FileNotFoundError, TimeoutError, RuntimeError)


def store_in_objects(scheme: str) -> tuple[str, str]:
    """The signed addresses of a table and of a place for its labels, at a storage in which nothing fails yet."""
    fsspec.register_implementation(scheme, Storage, clobber=True)
    source, output = (
        f"{scheme}://user:{PASSWORD}@bucket.example/{name}?X-Amz-Signature={SIGNATURE}&sig={SIGNATURE}"
        for name in ("in.jsonl", "out.jsonl")
    )
    Storage.fails_at = ""
    Storage.objects.clear()
    Storage.objects[source] = _LINES
    return source, output

"""Which format a name means, and how it is compressed.

The law of this file: the name decides, never a look at the content, so that input and output are read alike.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
from collections.abc import Generator
from dataclasses import dataclass
from typing import IO, Any, Literal, cast

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import need
from classifaily_connectors.redaction import shown_url

Kind = Literal["csv", "jsonl", "json", "parquet", "xlsx"]
_KINDS: dict[str, Kind] = {
    "csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "parquet": "parquet",
    "pq": "parquet", "xlsx": "xlsx", "xlsm": "xlsx",
}  # fmt: skip
_HINT = (
    "name it .csv, .tsv, .jsonl, .json, .xlsx or .parquet, perhaps with .gz, .bz2, .xz or .zst, or say with format= "
    "what it is"
)
_COMPRESSIONS = ("gz", "bz2", "xz", "zst")


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of table file; `suffix` is the name's own word for it, such as "tsv"."""

    kind: Kind
    suffix: str
    compression: str | None = None

    @contextlib.contextmanager
    def reading(self, file: IO[bytes]) -> Generator[IO[bytes]]:
        """The plain bytes in `file`."""
        with file, _opened(file, self.compression, "rb") as plain:
            yield plain

    @contextlib.contextmanager
    def writing(self, file: IO[bytes]) -> Generator[IO[bytes]]:
        """Where plain bytes go that are to end in `file`."""
        with _opened(file, self.compression, "wb") as plain:
            yield plain


def format_of(name: str, role: str, *, given: str | None = None, otherwise: str | None = None) -> Format:
    """The format that `name` ends in; `given` counts more than the name, `otherwise` where the name says nothing.

    Raises InvalidRequestError naming `role` (source or output) for an ending that says nothing.
    """
    stem, _dot, suffix = name.lower().rpartition(".")
    compression = suffix if suffix in _COMPRESSIONS else None
    if compression:
        suffix = stem.rpartition(".")[2]
    said = given or (otherwise if suffix not in _KINDS else None)
    if said is not None:
        suffix = said.lower().lstrip(".")
        if suffix not in _KINDS:
            raise refuse(f"format is {said!r}; it must be one of {', '.join(_KINDS)}")
    kind = _KINDS.get(suffix)
    if kind is None:
        hint = "open it and save it as .xlsx or .csv" if suffix in ("xls", "xlsb", "ods") else _HINT
        raise refuse(f"{role} {shown_url(name)!r}: {hint}")
    if kind in ("parquet", "xlsx") and compression:
        raise refuse(f"{role} {name!r}: .{suffix} is compressed inside: leave .{compression} out")
    return Format(kind, suffix, compression)


@contextlib.contextmanager
def _opened(file: IO[bytes], compression: str | None, mode: Literal["rb", "wb"]) -> Generator[IO[bytes]]:
    if compression is None:
        yield file
        return
    with _codec(file, compression, mode) as opened:
        yield opened


def _codec(file: IO[bytes], compression: str, mode: Literal["rb", "wb"]) -> IO[bytes]:
    if compression == "gz":
        # No name and no time in it: the same rows make the same bytes.
        return cast("IO[bytes]", gzip.GzipFile("", mode, fileobj=file, mtime=0))
    if compression == "bz2":
        return cast("IO[bytes]", bz2.BZ2File(file, mode))
    if compression == "xz":
        return cast("IO[bytes]", lzma.LZMAFile(file, mode))
    pa = need("pyarrow")
    if mode == "rb":
        return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))
    return cast("IO[bytes]", pa.CompressedOutputStream(_Kept(file), "zstd"))


class _Kept(io.RawIOBase):
    """A file that stays open when pyarrow closes it: it has yet to be forced to the disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._file.write(data)

"""Files and folders behind fsspec: object stores, the web, other machines.

An object store has no locks. Whoever writes an output leaves a note of it beside the output and renews it; a run that
finds another's fresh note lets it finish. Parts carry their run in their names, so that even two runs which saw neither
note never mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Generator
from datetime import datetime
from typing import IO, Any

from classifaily_connectors.errors import OutputBusyError, StorageError, refuse
from classifaily_connectors.places.base import AGAIN, ELSEWHERE, Place, Produce, reading, reason, storage_errors
from classifaily_connectors.redaction import shown_url

RENEWED, EXPIRES = 20.0, 90.0
"""Seconds between two renewals of a run's note, and until the note of a run that was killed no longer counts."""
WEB = ("http", "https")
_PATTERN = frozenset("*?[")
_ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "sha256", "checksum")
_MODIFIED = (
    "LastModified",
    "last_modified",
    "Last-Modified",
    "last-modified",
    "mtime",
    "modified",
    "updated",
    "created",
)
_NOT_MENDED = (
    PermissionError,
    NotImplementedError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
)


class RemotePlace(Place):
    """A file or folder behind fsspec."""

    def __init__(self, fs: Any, path: str, scheme: str) -> None:
        self.fs, self.path, self.scheme = fs, path.rstrip("/"), scheme
        self.name = shown_url(f"{scheme}://{self._plain}")

    @property
    def _plain(self) -> str:
        """The path without what may be secret: of a web address, its login and all behind the path."""
        if self.scheme not in WEB:
            return self.path.removeprefix(f"{self.scheme}:").lstrip("/")
        address = self.path.partition("://")[2] or self.path
        host, slash, path = address.partition("#")[0].partition("?")[0].partition("/")
        return f"{host.rpartition('@')[2]}{slash}{path}"

    @property
    def folder(self) -> RemotePlace:
        return RemotePlace(self.fs, self.path.rpartition("/")[0], self.scheme)

    @property
    def base(self) -> str:
        return self._plain.rpartition("/")[2]

    def open(self) -> IO[bytes]:
        problem = "no such file"
        try:
            with storage_errors(self.name, "read"):
                return reading(self.fs.open(self.path, "rb"), self.name)
        except StorageError as error:
            if not isinstance(error.__context__, FileNotFoundError):
                if not isinstance(error.__context__, PermissionError | IsADirectoryError):
                    raise
                problem = reason(error.__context__)
        raise refuse(f"{self.name}: {problem}: is this the right address?")

    def write(self, produce: Produce) -> None:
        with storage_errors(self.name, "written"):
            self._replace(produce)

    def _replace(self, produce: Produce) -> None:
        # Closing a file is what uploads it, also after an error: hence a name of its own, and then one rename.
        temporary = self.beside(f".{self.base}.{uuid.uuid4().hex[:12]}.tmp")
        with contextlib.suppress(NotImplementedError, OSError):
            self.fs.makedirs(self.path.rpartition("/")[0], exist_ok=True)
        try:
            with self.fs.open(temporary.path, "wb") as file:
                produce(file)
            _move(self.fs, temporary.path, self.path)
        except BaseException:
            with contextlib.suppress(Exception):
                temporary.remove()
            raise
        self.fs.invalidate_cache()

    def check_target(self) -> None:
        problem = "names no file" if not self.base else ""
        probe = self.beside(f".{self.base}.{uuid.uuid4().hex[:12]}.try")
        try:
            self.fs.invalidate_cache()
            if not problem and self.fs.isdir(self.path) and not self.fs.isfile(self.path):
                problem = "is a folder: name a file in it, or one beside it"
            if not problem:
                probe._replace(lambda file: _put(file, b"may a table be written here?\n"))
                _delete(self.fs, probe.path)
        except _NOT_MENDED as error:
            problem = f"cannot be written: {reason(error)}; {ELSEWHERE}"
        except Exception as error:  # noqa: BLE001  # whatever a file system raises
            raise StorageError(f"{self.name} cannot be written: {reason(error)}; {AGAIN}", place=self.name) from None
        if problem:
            raise refuse(f"output {self.name} {problem}")

    def is_same(self, other: Place) -> bool:
        return isinstance(other, RemotePlace) and (type(self.fs), self.path) == (type(other.fs), other.path)

    def is_inside(self, folder: Place) -> bool:
        if not isinstance(folder, RemotePlace) or type(self.fs) is not type(folder.fs):
            return False
        return self.path.startswith(f"{folder.path}/") and not {"", ".", ".."} & {*self.path.strip("/").split("/")}

    def version(self) -> str:
        self.fs.invalidate_cache()
        with storage_errors(self.name, "read"):
            version = object_version(self.fs, self.path)
            if version is not None:
                return version
            # Nothing but its content tells this object from another under its name.
            with self.fs.open(self.path, "rb") as file:
                digest = hashlib.blake2b()
                while piece := file.read(1 << 20):
                    digest.update(piece)
                return digest.hexdigest()

    def beside(self, name: str) -> RemotePlace:
        folder, slash, _base = self.path.rpartition("/")
        return RemotePlace(self.fs, f"{folder}{slash}{name}", self.scheme)

    def child(self, name: str) -> RemotePlace:
        return RemotePlace(self.fs, f"{self.path}/{name}", self.scheme)

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        try:
            with storage_errors(self.name, "listed"):
                found = self.fs.ls(self.path, detail=False)
        except StorageError as error:
            if isinstance(error.__context__, FileNotFoundError):
                return []
            raise
        return sorted(name for each in found if (name := str(each).rstrip("/").rpartition("/")[2]))

    def remove(self) -> None:
        with storage_errors(self.name, "removed"), contextlib.suppress(FileNotFoundError):
            if self.fs.isdir(self.path) and not self.fs.isfile(self.path):
                with contextlib.suppress(OSError, NotImplementedError):  # what others put there stays
                    self.fs.rmdir(self.path)
            else:
                _delete(self.fs, self.path)
        self.fs.invalidate_cache()

    @contextlib.contextmanager
    def reserved(self) -> Generator[None]:
        token = uuid.uuid4().hex[:12]
        note = self.child(f"{token}.run")
        note.write(lambda file: _put(file, json.dumps({"at": time.time()}).encode()))
        ended = threading.Event()
        try:
            others = [name for name in self.names() if name.endswith(".run") and name != f"{token}.run"]
            if any(self._fresh(self.child(name), note) for name in others):
                folder, base = self.beside("").name, self.base.removeprefix(".").removesuffix(".parts")
                output = f"{folder.rstrip('/')}/{base}"
                raise OutputBusyError(
                    f"{output}: another run is writing this output; let it finish (the note of one that was killed "
                    f"counts for {EXPIRES:.0f} s)",
                    place=output,
                )
            for name in others:
                self.child(name).remove()
            threading.Thread(target=self._renew, args=(note, ended), name="classifaily-output", daemon=True).start()
            yield
        finally:
            ended.set()
            with contextlib.suppress(StorageError):
                note.remove()
            with contextlib.suppress(StorageError):
                self.remove()

    def _renew(self, note: RemotePlace, ended: threading.Event) -> None:
        while not ended.wait(RENEWED):
            with contextlib.suppress(StorageError):
                note.write(lambda file: _put(file, json.dumps({"at": time.time()}).encode()))

    def _fresh(self, note: RemotePlace, mine: RemotePlace) -> bool:
        """Whether another's note was renewed lately, by the store's own clock where it tells."""
        try:
            return _written(note) > _written(mine) - EXPIRES
        except (StorageError, ValueError, KeyError):
            return False  # it has just ended


def _written(note: RemotePlace) -> float:
    try:
        moment = note.fs.modified(note.path)
        if isinstance(moment, datetime):
            return moment.timestamp()
    except (NotImplementedError, KeyError):
        pass
    except FileNotFoundError as error:
        raise StorageError(reason(error)) from None
    with note.open() as file:
        return float(json.loads(file.read())["at"])


def object_version(fs: Any, path: str) -> str | None:
    """What tells this content of an object from another: its etag or the moment it was written, and its size.

    None where the file system knows neither. Raises what the file system raises.
    """
    info: dict[str, Any] = fs.info(path)
    word = next((str(info[name]) for name in (*_ETAGS, *_MODIFIED) if info.get(name)), None)
    return f"{word}|{info.get('size')}" if word else None


def _move(fs: Any, source: str, target: str) -> None:
    # `mv` and `rm` take names for patterns: `r[1].csv` would be `r1.csv`.
    try:
        fs.cp_file(source, target)
    except NotImplementedError:
        if _PATTERN & {*source, *target}:
            raise
        fs.mv(source, target)
        return
    _delete(fs, source)


def _delete(fs: Any, path: str) -> None:
    try:
        fs.rm_file(path)
    except NotImplementedError:
        if _PATTERN & {*path}:
            raise
        fs.rm(path)


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)

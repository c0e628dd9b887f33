"""Where bytes lie: on this machine's disk, or anywhere fsspec reaches.

The law of this file: under a place's own name there is never anything half-written. Bytes go to a temporary name
beside it, are forced to the disk, and take the name in one step. The disk needs only the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeGuard, cast
from urllib.parse import unquote, urlsplit

from classifaily_connectors.taxonomy import refuse

if TYPE_CHECKING:
    from types import ModuleType

Produce = Callable[[IO[bytes]], None]
_URL = re.compile(r"([a-z][a-z0-9+.-]+)(://|::)", re.IGNORECASE)


def need(module: str) -> ModuleType:
    """The module of an extra.

    Raises ImportError with the command that installs it.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
    raise ImportError(f"this table needs {module}: pip install 'classifaily-connectors[frames]'", name=module)


def scheme_of(address: str) -> str | None:
    """The scheme of a URL such as s3://bucket/key, None for a path."""
    match = _URL.match(address)
    return match[1].lower() if match else None


class Place(ABC):
    """A file or folder; `name` is what errors call it, free of credentials."""

    name: str

    @abstractmethod
    def open(self) -> IO[bytes]:
        """The bytes; raises InvalidRequestError when there are none to read."""

    @abstractmethod
    def write(self, produce: Produce) -> None:
        """Let `produce` write the whole content; it takes the place's name once complete and safe."""

    @abstractmethod
    def version(self) -> str:
        """A word that changes when the content does."""

    @abstractmethod
    def beside(self, name: str) -> Place:
        """Another place in the same folder."""

    @abstractmethod
    def child(self, name: str) -> Place:
        """A place in this folder."""

    @abstractmethod
    def names(self) -> list[str]:
        """What lies in this folder, sorted; nothing when there is no such folder."""

    @abstractmethod
    def remove(self) -> None:
        """Delete the file or folder, if it is there."""

    @contextlib.contextmanager
    def reserved(self) -> Generator[None]:
        """Nobody else writes into this folder meanwhile; only a local disk can promise that."""
        yield

    @property
    @abstractmethod
    def base(self) -> str:
        """The last part of the name."""


class ObjectPath(Protocol):
    """A path that brings its file system along, and with it the credentials: fsspec's universal_pathlib, and what is
    built on it, such as Airflow's ObjectStoragePath."""

    @property
    def fs(self) -> Any: ...
    @property
    def path(self) -> str: ...
    @property
    def protocol(self) -> str: ...


Address = str | os.PathLike[str] | ObjectPath


def is_address(value: object) -> TypeGuard[Address]:
    """Whether `value` says where bytes lie, rather than holding them."""
    return isinstance(value, str | os.PathLike) or _brings_its_file_system(value)


def _brings_its_file_system(value: object) -> TypeGuard[ObjectPath]:
    # Asked of the class: a data frame answers to the names of its columns.
    return all(hasattr(type(value), name) for name in ("fs", "path", "protocol"))


def place_of(address: Address) -> Place:
    """The place at a path or URL."""
    if _brings_its_file_system(address):
        if address.protocol in ("", "file", "local"):
            return LocalPlace(Path(address.path))
        return RemotePlace(address.fs, address.path, address.protocol)
    text = os.fspath(cast("str | os.PathLike[str]", address))
    scheme = scheme_of(text)
    if scheme is None:
        return LocalPlace(Path(text))
    if scheme == "file":
        return LocalPlace(Path(unquote(urlsplit(text).path)))
    fs, path = need("fsspec.core").url_to_fs(text)
    return RemotePlace(fs, path, scheme)


class LocalPlace(Place):
    """A file or folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self.name = str(path)

    @property
    def base(self) -> str:
        return self.path.name

    def open(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except OSError as error:
            problem = error.strerror
        raise refuse(f"{self.name}: {problem}")

    def write(self, produce: Produce) -> None:
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{self.base}.tmp"
        try:
            with temporary.open("wb") as file:
                produce(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)

    def version(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()

    def beside(self, name: str) -> LocalPlace:
        return LocalPlace(self.path.with_name(name))

    def child(self, name: str) -> LocalPlace:
        return LocalPlace(self.path / name)

    def names(self) -> list[str]:
        return sorted(each.name for each in self.path.iterdir()) if self.path.is_dir() else []

    def remove(self) -> None:
        if self.path.is_dir():
            for each in self.path.iterdir():
                each.unlink()
            self.path.rmdir()
        else:
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def reserved(self) -> Generator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, because a lock inside would be deleted with it; the lock dies with its process.
        lock = self.path.with_name(f"{self.base}.lock")
        with lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = True
            else:
                busy = False
            if busy:
                raise refuse(f"{self.name.removesuffix(self.base)}: another run is writing this output; let it finish")
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)


class RemotePlace(Place):
    """A file or folder behind fsspec."""

    def __init__(self, fs: Any, path: str, scheme: str) -> None:
        self.fs, self.path, self.scheme = fs, path.rstrip("/"), scheme
        self.name = f"{scheme}://{self.path.lstrip('/')}"

    @property
    def base(self) -> str:
        return self.path.rpartition("/")[2]

    def open(self) -> IO[bytes]:
        try:
            return cast("IO[bytes]", self.fs.open(self.path, "rb"))
        except FileNotFoundError:
            pass
        raise refuse(f"{self.name}: no such file")

    def write(self, produce: Produce) -> None:
        # Closing a file is what uploads it, also after an error: hence a name of its own, and then one rename.
        temporary = self.beside(f".{self.base}.tmp")
        with contextlib.suppress(NotImplementedError, OSError):
            self.fs.makedirs(self.path.rpartition("/")[0], exist_ok=True)
        try:
            with self.fs.open(temporary.path, "wb") as file:
                produce(file)
            self.fs.mv(temporary.path, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.remove()
            raise
        self.fs.invalidate_cache()

    def version(self) -> str:
        self.fs.invalidate_cache()
        return object_version(self.fs, self.path)

    def beside(self, name: str) -> RemotePlace:
        folder, slash, _base = self.path.rpartition("/")
        return RemotePlace(self.fs, f"{folder}{slash}{name}", self.scheme)

    def child(self, name: str) -> RemotePlace:
        return RemotePlace(self.fs, f"{self.path}/{name}", self.scheme)

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(each).rstrip("/").rpartition("/")[2] for each in found)

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path, recursive=True)
        self.fs.invalidate_cache()


_ETAGS = ("ETag", "etag", "md5Hash", "content_md5")


def object_version(fs: Any, path: str) -> str:
    """What tells this content of an object from another: its etag and size, else whatever the file system knows."""
    info: dict[str, Any] = fs.info(path)
    etag = next((str(info[name]) for name in _ETAGS if info.get(name)), None)
    return f"{etag}|{info.get('size')}" if etag else str(fs.ukey(path))

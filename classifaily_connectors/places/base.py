"""What every place can do, and how its errors read."""

from __future__ import annotations

import contextlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import IO, TYPE_CHECKING

from classifaily_connectors.errors import ClassifailyError, MissingPackageError, StorageError

if TYPE_CHECKING:
    from types import ModuleType

    from _typeshed import WriteableBuffer

Produce = Callable[[IO[bytes]], None]
_BUFFER = 1 << 18
AGAIN = "run the same again once it can be"
ELSEWHERE = "choose another place, or give us what it takes to write there"


def need(module: str, extra: str = "frames") -> ModuleType:
    """The module of an extra.

    Raises MissingPackageError with the command that installs it.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
    raise MissingPackageError(f"this table needs {module}: pip install 'classifaily-connectors[{extra}]'")


class Place(ABC):
    """A file or folder; `name` is what errors call it, free of passwords and signatures."""

    name: str

    @abstractmethod
    def open(self) -> IO[bytes]:
        """The bytes; raises InvalidRequestError when there are none to read, StorageError when they do not come."""

    @abstractmethod
    def write(self, produce: Produce) -> None:
        """Let `produce` write the whole content; it takes the place's name once complete and safe.

        Raises StorageError when it cannot be kept.
        """

    @abstractmethod
    def check_target(self) -> None:
        """Try whether this can be written: everything that `write` does is done to a name beside it, and undone.

        Raises InvalidRequestError for what no waiting mends (a folder, a read-only file), StorageError for the rest.
        """

    def resolved(self) -> Place:
        """The place itself, where this is a link to it."""
        return self

    @abstractmethod
    def is_same(self, other: Place) -> bool:
        """Whether both names mean one file, however they are spelled."""

    @abstractmethod
    def is_inside(self, folder: Place) -> bool:
        """Whether this lies in the folder or in one below it, links and `..` followed."""

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
        """Delete the file, if it is there, or the folder, if it is empty."""

    @abstractmethod
    @contextlib.contextmanager
    def reserved(self) -> Generator[None]:
        """Nobody else writes into this folder meanwhile.

        Raises OutputBusyError while somebody does.
        """
        yield

    @property
    @abstractmethod
    def folder(self) -> Place:
        """The folder that this lies in."""

    @property
    @abstractmethod
    def base(self) -> str:
        """The last part of the name."""


def reason(error: BaseException) -> str:
    """What may be said of a storage's error: its message may quote a signed URL, the system's words do not."""
    if isinstance(error, ClassifailyError):
        return error.message
    words = getattr(error, "strerror", None)
    return words if isinstance(words, str) and words and "://" not in words else type(error).__name__


@contextlib.contextmanager
def storage_errors(name: str, doing: str) -> Generator[None]:
    """Make another library's error one of ours: `doing` is a verb, such as "written"."""
    problem = ""
    try:
        yield
    except (ClassifailyError, ImportError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever a file system raises
        problem = reason(error)
    if problem:
        # The storage's own error is not shown: it may quote a signed URL.
        raise StorageError(f"{name} cannot be {doing}: {problem}; {AGAIN}", place=name) from None


class _Reading(io.RawIOBase):
    """A file whose errors name its place, and not what was asked for in its place."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        with storage_errors(self._name, "read"):
            data = self._file.read(len(target))
            target[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with storage_errors(self._name, "read"):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            super().close()
            with storage_errors(self._name, "read"):
                self._file.close()


def reading(file: IO[bytes], name: str) -> IO[bytes]:
    """`file`, open for reading, which raises StorageError for `name` whatever goes wrong meanwhile."""
    return io.BufferedReader(_Reading(file, name), _BUFFER)

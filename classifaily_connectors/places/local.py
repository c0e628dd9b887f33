"""Files and folders of this machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import IO

from classifaily_connectors.errors import OutputBusyError, refuse
from classifaily_connectors.places.base import ELSEWHERE, Place, Produce, reading, storage_errors
from classifaily_connectors.process import identity, is_gone

_PRIVATE = 0o700
# What file systems answer that have no locks (Lustre, NFS, FUSE), or cannot force a folder to the disk (CIFS).
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EBADF)


class LocalPlace(Place):
    """A file or folder of this machine. A symbolic link is written through, and a file keeps its mode."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self.path = path.expanduser()
            problem = "holds a character that no file name can: leave it out" if "\0" in self.name else ""
        except RuntimeError:
            problem = "names a home folder that does not exist: write the whole path"
        if problem:
            raise refuse(f"{self.name!r} {problem}")

    @property
    def base(self) -> str:
        return self.path.name

    @property
    def folder(self) -> LocalPlace:
        return LocalPlace(self.path.parent)

    @property
    def _target(self) -> Path:
        return Path(os.path.realpath(self.path))

    def open(self) -> IO[bytes]:
        try:
            return reading(self.path.open("rb", buffering=0), self.name)
        except OSError as error:
            problem = error.strerror
        raise refuse(f"{self.name}: {problem}: is this the right name?")

    def write(self, produce: Produce) -> None:
        with storage_errors(self.name, "written"):
            _replace(self._target, produce)

    def check_target(self) -> None:
        target = self._target
        try:
            problem = _obstacle(target)
            if problem is None:
                _try(target)
        except OSError as error:
            problem = f"cannot be written: {error.strerror or type(error).__name__}; {ELSEWHERE}"
        if problem:
            raise refuse(f"output {self.name} {problem}")

    def resolved(self) -> LocalPlace:
        place = LocalPlace(self._target)
        place.name = self.name
        return place

    def is_same(self, other: Place) -> bool:
        if not isinstance(other, LocalPlace):
            return False
        try:
            return self.path.samefile(other.path)
        except OSError:  # one of them is not there yet
            return os.path.normcase(self._target) == os.path.normcase(other._target)  # noqa: SLF001

    def is_inside(self, folder: Place) -> bool:
        return isinstance(folder, LocalPlace) and self._target.is_relative_to(os.path.realpath(folder.path))

    def version(self) -> str:
        with storage_errors(self.name, "read"), self.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()

    def beside(self, name: str) -> LocalPlace:
        # Beside what is written: a link's own folder may be another's.
        return LocalPlace(self._target.with_name(name))

    def child(self, name: str) -> LocalPlace:
        return LocalPlace(self.path / name)

    def names(self) -> list[str]:
        with storage_errors(self.name, "listed"):
            return sorted(each.name for each in self.path.iterdir()) if self.path.is_dir() else []

    def make_private(self) -> None:
        """Make the folder, for its owner alone."""
        with storage_errors(self.name, "made"):
            self.path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)

    def remove(self) -> None:
        with storage_errors(self.name, "removed"):
            if self.path.is_dir() and not self.path.is_symlink():
                with contextlib.suppress(OSError):  # what others put there stays
                    self.path.rmdir()
            else:
                self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def reserved(self) -> Generator[None]:
        # Beside the folder, because a lock inside would be deleted with it.
        path = self.path.with_name(f"{self.base}.lock")
        with storage_errors(self.name, "reserved"):
            path.parent.mkdir(parents=True, exist_ok=True)
            held = _lock(path)
        if held is None:
            output = self.path.with_name(self.base.removeprefix(".").removesuffix(".parts"))
            raise OutputBusyError(f"{output}: another run is writing this output; let it finish", place=str(output))
        descriptor, made = held
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)
            os.close(descriptor)


def _replace(target: Path, produce: Produce) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            _keep_mode(target, file)
            produce(file)
            file.flush()
            _force(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        _force(folder)
    finally:
        os.close(folder)


def _obstacle(target: Path) -> str | None:
    """Why a table cannot take this name; None when nothing is there, or a file that may be written."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        return "is a folder: name a file in it, or one beside it"
    if not stat.S_ISREG(found.st_mode):
        return "is no plain file: a table is written beside its name, and then takes it"
    os.close(os.open(target, os.O_WRONLY))  # refused for a read-only file, which a renamed one would replace
    return None


def _try(target: Path) -> None:
    """Do all that a run will do beside the target, and undo it.

    Raises OSError where it cannot be done.
    """
    made = _missing(target.parent)
    # As long as the longest name that is needed, and none that another run may hold.
    longest, probe = (target.with_name(f".{target.name}{ending}") for ending in (".parts.test", ".try"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        longest.touch(0o600)
        longest.unlink(missing_ok=True)
        _replace(probe, lambda file: _put(file, b"may a table be written here?\n"))
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        for folder in made:  # the run makes them again; a refused one leaves nothing behind
            with contextlib.suppress(OSError):
                folder.rmdir()


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)


def _lock(path: Path) -> tuple[int, Path] | None:
    """An open descriptor that holds the lock, and the file to delete in the end; None while another holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor, path
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _UNSUPPORTED:
                raise
            path.unlink(missing_ok=True)
            return _exclusive_file(path.with_suffix(".process"))
        os.close(descriptor)  # its last holder deleted it between our two calls


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _exclusive_file(path: Path) -> tuple[int, Path] | None:
    """The same where there are no locks: a file that names its process, and outlives it without harm."""
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            try:
                holder = path.read_text()
            except FileNotFoundError:
                continue
            if not holder or not is_gone(holder):  # empty: it has just been made
                return None
            path.unlink(missing_ok=True)
        else:
            os.write(descriptor, identity().encode())
            return descriptor, path
    return None


def _keep_mode(target: Path, file: IO[bytes]) -> None:
    try:
        found = target.stat()
    except OSError:
        return  # a new file has the mode that the user's umask gives
    with contextlib.suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(found.st_mode))
    with contextlib.suppress(OSError):
        os.fchown(file.fileno(), found.st_uid, found.st_gid)


def _force(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _missing(folder: Path) -> list[Path]:
    """The folders that have to be made, the innermost first."""
    missing: list[Path] = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing

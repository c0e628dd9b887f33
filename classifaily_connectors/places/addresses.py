"""From what a caller wrote to the place that is meant."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Protocol, TypeGuard
from urllib.parse import unquote

from classifaily_connectors.errors import MissingPackageError, StorageError, refuse
from classifaily_connectors.places.base import Place, need, reason
from classifaily_connectors.places.local import LocalPlace
from classifaily_connectors.places.remote import RemotePlace
from classifaily_connectors.redaction import shown_url

_URL = re.compile(r"([a-z][a-z0-9+.-]+)(://|::)", re.IGNORECASE)
_LOST_SLASH = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)", re.IGNORECASE)


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


def scheme_of(address: str) -> str | None:
    """The scheme of a URL such as s3://bucket/key, None for a path."""
    match = _URL.match(address)
    return match[1].lower() if match else None


def place_of(address: Address) -> Place:
    """The place at a path or URL.

    Raises InvalidRequestError for a URL that lost a slash (`Path("s3://bucket/x")` does that), a file URL that names a
    host, an empty name, what is no path at all, and a scheme that no file system has; MissingPackageError where the
    package of the file system is not installed.
    """
    if _brings_its_file_system(address):
        if address.protocol in ("", "file", "local"):
            return LocalPlace(Path(address.path))
        return RemotePlace(address.fs, address.path, address.protocol)
    if not isinstance(address, str | os.PathLike):
        raise refuse(f"a path or URL must be text or a Path, not {type(address).__name__}")
    text = os.fspath(address)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a path may be of bytes
        raise refuse("a path or URL must be text, not bytes")
    if not text.strip():
        raise refuse("a path or URL is empty")
    scheme = scheme_of(text)
    if scheme == "file":
        return LocalPlace(_file_path(text))
    if scheme is not None:
        return _remote(text, scheme)
    if lost := _LOST_SLASH.match(text):
        right = shown_url(f"{lost[1]}://{text[lost.end() :]}")
        raise refuse(f"{right!r} has lost a slash, as pathlib.Path does to a URL: pass it as text")
    return LocalPlace(Path(text))


def _remote(url: str, scheme: str) -> RemotePlace:
    core, shown = need("fsspec.core"), shown_url(url)
    try:
        fs, path = core.url_to_fs(url)
        return RemotePlace(fs, path, scheme)
    except ImportError as error:  # fsspec names the package that the file system needs
        missing = str(error)
    except ValueError:
        missing = ""
    except Exception as error:  # noqa: BLE001  # whatever a file system raises
        raise StorageError(f"{shown} cannot be reached: {reason(error)}", place=shown) from None
    if missing:
        raise MissingPackageError(f"{shown}: {missing}")
    raise refuse(f"{shown}: no file system is known for {scheme}://; install the package that brings it to fsspec")


def _file_path(url: str) -> Path:
    rest = url.partition(":")[2].removeprefix("//")
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost"):
        right = f"file:///{rest.rpartition('@')[2]}"
        raise refuse(f"{shown_url(url)!r} names a host: write {right}, with three slashes")
    return Path(unquote(f"{slash}{path}"))

"""Media by what they are, not by where they lie.

The law of this file: an input is told from others by its content (bytes that we hold), else by its object's etag and
size, never by an address that is signed anew for every run. Images travel as data URIs, audio and video as signed
URLs, because the API takes nothing else (API reference, Classify).
"""

from __future__ import annotations

import os
from typing import Any

from classifaily_connectors.errors import refuse
from classifaily_connectors.media import MAX_IMAGE_BYTES, Input, Reference, encode_input
from classifaily_connectors.places import LocalPlace, Place, RemotePlace, object_version, place_of, scheme_of

EXPIRES = 24 * 3600
"""Seconds a signed URL is good for: a queued video may wait."""
__all__ = ["Reference", "Resolver", "unsigned"]
_WEB = ("http", "https")
_AS_IT_IS = (*_WEB, "data")
_SIGNED_BY = frozenset({
    "signature", "sig", "hmac", "token", "access_token", "auth", "policy", "key-pair-id", "awsaccesskeyid",
    "googleaccessid", "ossaccesskeyid", "expires", "expiry", "exp", "se", "sp", "sr", "st", "sv", "spr", "sip",
    "skoid", "sktid", "skt", "ske", "sks", "skv",
})  # fmt: skip
_SIGNATURES = frozenset({"sig", "signature", "token", "access_token", "hmac"})
_SIGNING = ("x-amz-", "x-goog-", "x-oss-", "x-cos-", "q-")


def unsigned(url: str) -> str:
    """A URL without what signs it: the same for one object however often it is signed, another for another object.

    Left out are login, fragment and the parameters that object stores and CDNs sign with; others may say which
    object is meant, and stay.
    """
    head, mark, query = url.partition("#")[0].partition("?")
    names = [each.partition("=")[0].lower() for each in query.split("&")]
    if any(name in _SIGNATURES or name.startswith(_SIGNING) for name in names):
        kept = [
            each
            for each, name in zip(query.split("&"), names, strict=True)
            if name not in _SIGNED_BY and not name.startswith(_SIGNING)
        ]
        query = "&".join(kept)
    scheme, _, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{authority.rpartition('@')[2].lower()}{slash}{path}{mark if query else ''}{query}"


class Resolver:
    """Turns paths and object-store URLs into what the API takes; safe to share between threads.

    `folder` is where text may name files: relative names start there, and none leads out of it. Without one, and with
    `opens=False`, text names no file at all; with `stores=True`, where a text is the caller's own argument, it may name
    any object in a store. A path object or bytes are the caller's own, and always taken. `expires` is the seconds a
    signed URL is good for.
    """

    def __init__(
        self, folder: Place | None = None, *, opens: bool = True, stores: bool = False, expires: int = EXPIRES
    ) -> None:
        self.folder, self.opens, self.stores, self.expires = folder, opens, stores, expires

    def __call__(self, value: Input, input_type: str) -> Input:
        """What to send for `value`: a data URI for an image, a `Reference` for audio and video in an object store.

        Texts, public URLs and data URIs come back as they are. Raises InvalidRequestError for text that names a file
        where it may not, for what cannot be read, is no image, or lies where no URL can be signed.
        """
        if input_type == "text" or isinstance(value, Reference | bytes | bytearray):
            return value
        address = os.fspath(value)
        if scheme_of(address) in _AS_IT_IS or address[:5].lower() == "data:" or not address.strip():
            return value
        place = self._named(address) if isinstance(value, str) else place_of(value)
        if isinstance(place, RemotePlace):
            return self._image(place) if input_type == "image" else self._signed(place)
        if input_type != "image" or not isinstance(place, LocalPlace):
            raise refuse(
                f"input is a local file, but type is {input_type!r}: the API takes only URLs for audio and video; "
                "put it where a URL can be signed (s3://, gs://)"
            )
        return encode_input(place.path, "image")

    def _named(self, address: str) -> Place:
        """The file that a text names: a row is data, and must not choose which of our files is read and sent."""
        if self.stores and scheme_of(address) not in (None, "file"):
            return place_of(address)
        if not self.opens:
            raise refuse("input names a file, which only a run with type= or media_folder= opens: pass a public URL")
        if self.folder is None:
            raise refuse("input names a file: say with media_folder= in which folder, or pass a pathlib.Path")
        place = self.folder.child(address) if scheme_of(address) is None else place_of(address)
        if not place.is_inside(self.folder):
            raise refuse(
                f"input names a file outside {self.folder.name}: say with media_folder= where files may be named"
            )
        return place

    def _image(self, place: RemotePlace) -> str:
        with place.open() as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
        return encode_input(data, "image")

    def _signed(self, place: RemotePlace) -> Reference:
        fs: Any = place.fs
        try:
            version = object_version(fs, place.path)
        except FileNotFoundError:
            version, problem = None, "no such object"
        else:
            problem = "its store tells neither an etag nor when it was written: pass identity="
        if version is None:
            raise refuse(f"{place.name}: {problem}")
        try:
            url = str(fs.sign(place.path, expiration=self.expires))
        except NotImplementedError:
            url = ""
        if not url:
            raise refuse(
                f"no URL can be signed on {place.scheme}://: pass public URLs, and identity= for what tells them apart"
            )
        return Reference(url, f"{place.name}|{version}")

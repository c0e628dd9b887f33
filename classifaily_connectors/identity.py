"""Media by what they are, not by where they lie.

The law of this file: an input is told from others by its content (bytes that we hold), else by its object's etag and
size, never by an address that is signed anew for every run. Images travel as data URIs, audio and video as signed
URLs, because the API takes nothing else (API reference, Classify).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from classifaily_connectors.media import MAX_IMAGE_BYTES, Input, Reference, encode_input
from classifaily_connectors.places import LocalPlace, RemotePlace, object_version, place_of, scheme_of
from classifaily_connectors.taxonomy import refuse

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

    `base` is the folder that relative paths start from, `expires` the seconds a signed URL is good for.
    """

    def __init__(self, base: str | os.PathLike[str] | None = None, *, expires: int = EXPIRES) -> None:
        self.base = None if base is None else Path(base)
        self.expires = expires

    def __call__(self, value: Input, input_type: str) -> Input:
        """What to send for `value`: a data URI for an image, a `Reference` for audio and video in an object store.

        Texts, public URLs and data URIs come back as they are. Raises InvalidRequestError for what cannot be read,
        is no image, or lies where no URL can be signed.
        """
        if input_type == "text" or isinstance(value, Reference | bytes | bytearray):
            return value
        address = os.fspath(value)
        if scheme_of(address) in _AS_IT_IS or address[:5].lower() == "data:" or not address.strip():
            return value
        if scheme_of(address) is None and self.base is not None:
            address = os.fspath(self.base / address)
        place = place_of(address)
        if isinstance(place, RemotePlace):
            return self._image(place) if input_type == "image" else self._signed(place)
        if input_type != "image" or not isinstance(place, LocalPlace):
            raise refuse(
                f"input is a local file, but type is {input_type!r}: the API takes only URLs for audio and video; "
                "put it where a URL can be signed (s3://, gs://)"
            )
        return encode_input(place.path, "image")

    def _image(self, place: RemotePlace) -> str:
        with place.open() as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
        return encode_input(data, "image")

    def _signed(self, place: RemotePlace) -> Reference:
        fs: Any = place.fs
        try:
            version = object_version(fs, place.path)
        except FileNotFoundError:
            version = None
        if version is None:
            raise refuse(f"{place.name}: no such object")
        try:
            url = str(fs.sign(place.path, expiration=self.expires))
        except NotImplementedError:
            url = ""
        if not url:
            raise refuse(
                f"no URL can be signed on {place.scheme}://: pass public URLs, and identity= for what tells them apart"
            )
        return Reference(url, f"{place.name}|{version}")

"""What may stand in `input`, and how it travels.

The law of this file: the API takes text, public URLs, and base64 data URIs for images only (API reference, Classify),
so anything else is refused here, by name, before it costs a request; and no error repeats the input.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Self

from classifaily_connectors.errors import refuse

INPUT_TYPES = ("text", "image", "audio", "video")
MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""The largest image turned into a data URI, in bytes: a guard for memory, as the API documents no limit of its own."""

Input = str | bytes | os.PathLike[str]
"""Text or a public URL; for images also the bytes, the path of a file, or a base64 data URI."""


class Reference(str):
    """A URL, and the `identity` of what lies behind it: equal identities are one input, whatever the URLs."""

    __slots__ = ("identity",)
    identity: str

    def __new__(cls, url: str, identity: str) -> Self:
        """The URL with its identity."""
        self = super().__new__(cls, url)
        self.identity = identity
        return self


HALF_A_PAIR = "holds half a surrogate pair, which is not text: decode it with errors='replace'"

_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"BM"), "image/bmp"),
    (re.compile(rb"II\*\x00|MM\x00\*"), "image/tiff"),
    (re.compile(rb"....ftyp(?:avif|avis)", re.DOTALL), "image/avif"),
    (re.compile(rb"....ftyp(?:heic|heix|mif1|msf1)", re.DOTALL), "image/heic"),
)
_URL = re.compile(r"https?://[^\s/]+", re.IGNORECASE)
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=_-]", re.IGNORECASE)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can carry `text`; half a surrogate pair, as `errors="surrogateescape"` leaves it, it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_input(value: Input, input_type: str, field: str = "input") -> str:
    """`value` as the string the API takes.

    Raises InvalidRequestError naming `field` for an empty input, an unknown type, bytes or files other than images,
    an image over `MAX_IMAGE_BYTES`, and media that is neither a URL nor (images only) a data URI.
    """
    if input_type not in INPUT_TYPES:
        raise refuse(f"type is {input_type!r}; it must be one of {', '.join(INPUT_TYPES)}")
    if isinstance(value, str):
        problem = _problem(value, input_type, field)
        if problem:
            raise refuse(problem)
        return value
    if not isinstance(value, bytes | bytearray | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse(f"{field} must be text, a URL, or an image's bytes or path, not {type(value).__name__}")
    if input_type != "image":
        fix = (
            "pass type='image' for an image" if input_type == "text" else "the API takes only URLs for audio and video"
        )
        raise refuse(f"{field} holds bytes or a file, but type is {input_type!r}: {fix}")
    return _data_uri(_image_bytes(value, field), field)


def _problem(value: str, input_type: str, field: str) -> str | None:
    if not value or value.isspace():
        return f"{field} is empty: there is nothing to classify"
    if not is_unicode(value):
        return f"{field} {HALF_A_PAIR}"
    if input_type == "text" or _URL.match(value):
        return None
    if value[:5].lower() == "data:":
        if input_type != "image":
            return f"{field} is a data URI, but type is {input_type!r}: the API takes only URLs for audio and video"
        if len(value) > MAX_IMAGE_BYTES * 4 // 3 + 256:
            return f"{field} is a data URI of more than {MAX_IMAGE_BYTES} bytes: pass a public URL instead"
        return None if _DATA_URI.match(value) else f"{field} is no base64 data URI (data:image/png;base64,…)"
    wanted = "a public URL, a data URI, bytes or a pathlib.Path" if input_type == "image" else "a public URL"
    return f"{field} must be {wanted} when type is {input_type!r}"


def _image_bytes(value: bytes | os.PathLike[str], field: str) -> bytes:
    if not isinstance(value, os.PathLike):
        return bytes(value)
    try:
        with Path(value).open("rb") as file:
            return file.read(MAX_IMAGE_BYTES + 1)
    except OSError as cause:
        raise refuse(f"{field}: cannot read the image file: {cause.strerror}") from None


def _data_uri(data: bytes, field: str) -> str:
    if len(data) > MAX_IMAGE_BYTES:
        raise refuse(f"{field} is an image of more than {MAX_IMAGE_BYTES} bytes: pass a public URL instead")
    media_type = next((name for pattern, name in _SIGNATURES if pattern.match(data)), None)
    if media_type is None:
        raise refuse(f"{field} is no image this package knows (PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF, HEIC)")
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"

"""The passwords in a URL: found, in every way they may be written, and left out of what is shown.

The law of this file: it is pure, and takes too much for a password rather than too little.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
# As drivers read it: up to the last @ before the path, and a password may hold what should have been encoded.
_LOGIN = re.compile(r"(?<=://)([^:/?#@]*):([^@]*)@")
_FIELD = re.compile(
    r"(?i)([?&;\s][\w.-]*(?:password|passwd|pwd|secret|token|signature|sig|api_?key)[\w.-]*=)([^&;\s]+)"
)


def shown_url(url: str) -> str:
    """The URL without the passwords in it, for a log, a page or an error."""
    return _FIELD.sub(rf"\1{HIDDEN}", _LOGIN.sub(rf"\1:{HIDDEN}@", url))


def url_secrets(url: str) -> tuple[str, ...]:
    """Every way in which a password of the URL may appear: as it stands there, decoded, encoded anew, quoted in JSON.

    For a platform that is told what to mask. A URL without a password has none.
    """
    found = [match[2] for pattern in (_LOGIN, _FIELD) for match in pattern.finditer(url)]
    return tuple(dict.fromkeys(form for each in found for form in _forms(each) if form))


def _forms(written: str) -> Iterator[str]:
    yield written
    for plain in (unquote(written), unquote_plus(written)):
        yield from (plain, quote(plain, safe=""), quote_plus(plain), quote(plain), quote(plain, safe=" +"))
        yield from (json.dumps(plain)[1:-1], repr(plain)[1:-1])

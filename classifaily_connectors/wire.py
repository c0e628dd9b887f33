"""JSON as it comes from the API, in answers and in deliveries: the one door through which its texts enter.

The law of this file: what comes out can be kept, shown, quoted and written as JSON again. Half a surrogate pair (a cut
emoji) becomes U+FFFD, the replacement character; numbers that JSON does not have become null. An answer that was paid
is not lost to one broken letter.
"""

from __future__ import annotations

import json
import re
from typing import Any

REPLACEMENT = "\ufffd"
_SUSPECT = re.compile(r"\\u[dD][89a-fA-F]")
# Every escape is looked at in turn, so that a backslash that is itself escaped begins none.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


class TooDeepError(ValueError):
    """More brackets within brackets than Python reads."""


def read_json(body: bytes | str, *, lenient: bool = False) -> Any:
    """The value that `body` holds; `lenient` replaces bytes that are no Unicode, too.

    Raises ValueError when it is no JSON, and its kind TooDeepError when it is nested too deep.
    """
    text = json_text(body, lenient=lenient)
    try:
        return json.loads(text, parse_constant=_nothing)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python reads
        return json.loads(text, parse_constant=_nothing, parse_int=_whole)
    except RecursionError:
        pass
    raise TooDeepError("the JSON is nested too deep")


def json_text(body: bytes | str, *, lenient: bool = False) -> str:
    """The text of a JSON body, whatever Unicode it is written in, with no half of a surrogate pair in it.

    Raises ValueError for bytes that are no Unicode, unless it is `lenient`.
    """
    if isinstance(body, str):
        text = body.removeprefix("\ufeff")
    else:
        text = body.decode(json.detect_encoding(body), "replace" if lenient else "surrogatepass")
    if not _is_unicode(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _ESCAPE.sub(_whole_pairs, text) if _SUSPECT.search(text) else text


def _whole_pairs(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape["half"] else escape[0]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nothing(_word: str) -> None:
    """What NaN and Infinity are in JSON."""


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return float(digits)

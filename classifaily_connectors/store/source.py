"""What tells accounts and environments apart: the last part of a webhook's path, in its one spelling."""

from __future__ import annotations

import re

from classifaily_connectors.errors import ConfigurationError

DEFAULT = "default"
"""The source of a path that names none."""
_SOURCE = re.compile(r"[a-z0-9_]{1,64}")
_RESERVED = frozenset({"feed", "_"})


def source_name(word: str) -> str | None:
    """`word` as the name of a source: small letters, digits and underscores, with `-` read as `_`; None if it is
    no name."""
    name = word.strip().lower().replace("-", "_")
    return name if _SOURCE.fullmatch(name) and name not in _RESERVED else None


def checked_source(word: str) -> str:
    """The one spelling of a source. Raises ConfigurationError when `word` cannot be one."""
    name = source_name(word)
    if name is None:
        raise ConfigurationError(
            f"{word!r} cannot be a webhook source: 1 to 64 letters, digits and underscores, and not 'feed'"
        )
    return name

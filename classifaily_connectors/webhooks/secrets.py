"""The secrets that deliveries are signed with, by source.

The law of this file: every secret in it may be used at any moment, so a rotation is two files apart and rejects
nothing; a secret that could be guessed is refused when it is read, and a file that has become unreadable leaves the
last good one in force. No secret is ever printed.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from pydantic import SecretStr

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.models import as_map
from classifaily_connectors.webhooks.signature import Keys

DEFAULT = "default"
"""The source of a path that names none."""
VARIABLE = "CLASSIFAILY_WEBHOOK_SECRET"
FILE_VARIABLE = "CLASSIFAILY_WEBHOOK_SECRETS_FILE"
SHORTEST = 16
"""Bytes; a shorter secret could be guessed from one delivery that somebody saw."""

Given = str | SecretStr | Iterable[str | SecretStr]
BySource = dict[str, tuple[SecretStr, ...]]
_SOURCE = re.compile(r"[a-z0-9_]{1,64}")
_RESERVED = frozenset({"feed", "_"})
_FEED = b"classifaily-connectors feed v1"

logger = logging.getLogger("classifaily_connectors")


def source_name(word: str) -> str | None:
    """`word` as the name of a source: small letters, digits and underscores, with `-` read as `_`; None if it is
    no name."""
    name = word.lower().replace("-", "_")
    return name if _SOURCE.fullmatch(name) and name not in _RESERVED else None


def feed_token(secret: str | SecretStr) -> str:
    """The bearer token of a source's feed: derived from its webhook secret, which it does not give away."""
    raw = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    return hmac.digest(raw.strip().encode(), _FEED, "sha256").hex()


class Secrets:
    """The secrets of each source, newest first.

    `given` are those of the default source, or a mapping of sources; without it they come from the environment:
    CLASSIFAILY_WEBHOOK_SECRET (several with commas between), and CLASSIFAILY_WEBHOOK_SECRET_<SOURCE> for another.
    Those in `file` (default: CLASSIFAILY_WEBHOOK_SECRETS_FILE) are added, and it is read again whenever it changes:
    lines with secrets of the default source, or JSON, `{"default": ["new", "old"], "staging": ["other"]}`.

    Raises ConfigurationError when a secret is empty or shorter than 16 bytes, a source's name is none, or `file`
    cannot be read.
    """

    def __init__(
        self, given: Given | Mapping[str, Given] | None = None, *, file: str | os.PathLike[str] | None = None
    ) -> None:
        self._given = _checked(_environment() if given is None else _by_source(given))
        place = file or (os.environ.get(FILE_VARIABLE) if given is None else None)
        self._file = Path(place) if place else None
        self._seen: object = None
        self._take(self._given)
        if self._file:
            self._seen = _stamp(self._file)
            self._take(self._joined(_read(self._file)))

    def __repr__(self) -> str:
        return f"Secrets({', '.join(f'{name}: {len(each)}' for name, each in sorted(self._all.items()))})"

    def __bool__(self) -> bool:
        return bool(self.sources)

    @property
    def sources(self) -> list[str]:
        """The sources that have a secret."""
        self._refresh()
        return sorted(self._all)

    def of(self, source: str) -> tuple[SecretStr, ...]:
        """The secrets of a source, newest first; none if it is unknown."""
        self._refresh()
        return self._all.get(source, ())

    def keys(self, source: str) -> Keys | None:
        """What deliveries of a source are verified with; None if it is unknown."""
        self._refresh()
        return self._keys.get(source)

    def _take(self, secrets: BySource) -> None:
        self._all, self._keys = secrets, {name: Keys(each) for name, each in secrets.items()}

    def _refresh(self) -> None:
        if self._file is None or (stamp := _stamp(self._file)) == self._seen:
            return
        self._seen = stamp
        try:
            self._take(self._joined(_read(self._file)))
            logger.info("the webhook secrets were read again: %r", self)
        except ConfigurationError as error:
            logger.warning("%s: the secrets read before stay in force", error.message)

    def _joined(self, read: BySource) -> BySource:
        names = [*read, *(name for name in self._given if name not in read)]
        return {name: read.get(name, ()) + self._given.get(name, ()) for name in names}


def _by_source(given: Given | Mapping[str, Given]) -> Mapping[str, Given]:
    if isinstance(given, Mapping):
        return cast("Mapping[str, Given]", given)
    return {DEFAULT: given}


def _environment() -> dict[str, Given]:
    prefix = f"{VARIABLE}_"
    named = {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)}
    default = {DEFAULT: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
    return {name: _several(value) for name, value in {**default, **named}.items()}


def _several(text: str) -> list[str]:
    return [each for each in re.split(r"[,\n]", text) if each.strip()]


def _stamp(file: Path) -> object:
    # A secret mounted by an orchestrator changes by a link that points elsewhere: hence the inode.
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path) -> BySource:
    try:
        text = file.read_text().strip()
        by_source = as_map(json.loads(text)) if text.startswith("{") else {DEFAULT: _several(text)}
        problem = "" if by_source else "it names no source"
    except OSError as error:
        by_source, problem = {}, str(error.strerror)
    except ValueError:
        by_source, problem = {}, "it is neither lines of text nor JSON"
    if not problem:
        return _checked(by_source)
    raise ConfigurationError(f"the webhook secrets in {file} cannot be read: {problem}")


def _checked(by_source: Mapping[str, Given]) -> BySource:
    found: BySource = {}
    for word, given in by_source.items():
        name = source_name(word)
        if name is None:
            raise ConfigurationError(
                f"{word!r} cannot be a webhook source: 1 to 64 letters, digits and underscores, and not 'feed'"
            )
        several = [given] if isinstance(given, str | SecretStr) else given
        found[name] = tuple(each if isinstance(each, SecretStr) else SecretStr(str(each)) for each in several)
        if not found[name] or any(len(each.get_secret_value().strip().encode()) < SHORTEST for each in found[name]):
            raise ConfigurationError(
                f"a webhook secret of source {name!r} is empty or shorter than {SHORTEST} bytes: "
                f"take the one that ClassifAIly gave for the endpoint ({VARIABLE})"
            )
    return found

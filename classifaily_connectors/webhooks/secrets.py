"""The secrets that deliveries are signed with, by source.

The law of this file: every secret in it may be used at any moment, so a rotation is two files apart and rejects
nothing; a secret that could be guessed is refused when it is read, and a file that has become unreadable leaves the
last good one in force. No secret is ever printed.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.secret_text import bare, read_file
from classifaily_connectors.store.source import DEFAULT, checked_source, source_name
from classifaily_connectors.webhooks.secret_forms import (
    FILE_VARIABLE,
    VARIABLE,
    BySource,
    Given,
    checked,
    from_arguments,
    from_text,
    from_variables,
    unique,
)
from classifaily_connectors.webhooks.signature import Keys

__all__ = ["DEFAULT", "FILE_VARIABLE", "VARIABLE", "Given", "Secrets", "feed_token", "source_name"]

_FEED = b"classifaily-connectors feed v1"

logger = logging.getLogger("classifaily_connectors")


def feed_token(secret: str | SecretStr) -> str:
    """The bearer token of a source's feed: derived from its webhook secret, which it does not give away."""
    raw = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    return hmac.digest(bare(raw).encode(), _FEED, "sha256").hex()


class Secrets:
    """The secrets of each source, newest first.

    `given` are those of the default source, or a mapping of sources; without it they come from the environment:
    CLASSIFAILY_WEBHOOK_SECRET (several with commas between), and CLASSIFAILY_WEBHOOK_SECRET_<SOURCE> for another;
    with _FILE at the end of its name, a variable names a file that holds them. Those in `file` (default:
    CLASSIFAILY_WEBHOOK_SECRETS_FILE) are added: lines with secrets of the default source, or JSON,
    `{"default": ["new", "old"], "staging": ["other"]}`. Every file is read again whenever it changes.

    Raises ConfigurationError when a secret is empty, shorter than 16 bytes or obviously none (a path, an address, a
    template), a source's name is none, or a file cannot be read.
    """

    def __init__(
        self, given: Given | Mapping[str, Given] | None = None, *, file: str | os.PathLike[str] | None = None
    ) -> None:
        self._given, named = from_variables(os.environ) if given is None else (from_arguments(given), {})
        place = file or (os.environ.get(FILE_VARIABLE) if given is None else None)
        self._files = [_File(Path(os.environ[each].strip()), source, each) for each, source in named.items()]
        if place:
            self._files.insert(0, _File(Path(place), DEFAULT, "the webhook secrets"))
        self._problem = ""
        self._seen: object = self._stamps()
        self._take(self._joined())

    def __repr__(self) -> str:
        return f"Secrets({', '.join(f'{name}: {len(each)}' for name, each in sorted(self._all.items()))})"

    def __bool__(self) -> bool:
        return bool(self.sources)

    @property
    def sources(self) -> list[str]:
        """The sources that have a secret."""
        self._refresh()
        return sorted(self._all)

    @property
    def problem(self) -> str:
        """Why a file cannot be read any more, so that what was read before is in force; empty when all is well."""
        self._refresh()
        return self._problem

    def of(self, source: str) -> tuple[SecretStr, ...]:
        """The secrets of a source, however it is spelt, newest first; none if it is unknown."""
        self._refresh()
        return self._all.get(source_name(source) or "", ())

    def keys(self, source: str) -> Keys | None:
        """What deliveries of a source (as `source_name` spells it) are verified with; None if it is unknown."""
        if self._files:
            self._refresh()
        return self._keys.get(source)

    def reload(self) -> None:
        """Read the files again, whether or not they seem to have changed; what is spoilt leaves the last good ones."""
        self._seen = None
        self._refresh()

    def _take(self, secrets: BySource) -> None:
        self._all, self._keys = secrets, {name: Keys(each) for name, each in secrets.items()}

    def _refresh(self) -> None:
        if not self._files or (stamps := self._stamps()) == self._seen:
            return
        self._seen = stamps
        try:
            self._take(self._joined())
        except ConfigurationError as error:
            self._problem = error.message
            logger.warning("%s: the secrets read before stay in force", error.message)
        else:
            self._problem = ""
            logger.info("the webhook secrets were read again: %r", self)

    def _stamps(self) -> object:
        return [_stamp(each.path) for each in self._files]

    def _joined(self) -> BySource:
        joined: BySource = {}
        for each in self._files:
            for name, secrets in each.read().items():
                joined[name] = unique((*joined.get(name, ()), *secrets))
        for name, secrets in self._given.items():
            joined[name] = unique((*joined.get(name, ()), *secrets))
        return joined


class _File:
    """A file of secrets; those without a source of their own are of `source`."""

    def __init__(self, path: Path, source: str, variable: str) -> None:
        self.path, self._source, self._variable = path, source, variable

    def read(self) -> BySource:
        """The secrets in it. Raises ConfigurationError when it cannot be read, or holds none."""
        text = read_file(self.path, self._variable)
        found: BySource = {}
        for word, several in (from_text(text, self._source) or {self._source: []}).items():
            name = checked_source(word)
            found[name] = unique((*found.get(name, ()), *checked(name, several)))
        return found


def _stamp(file: Path) -> object:
    # A secret mounted by an orchestrator changes by a link that points elsewhere: hence the inode.
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

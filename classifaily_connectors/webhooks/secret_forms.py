"""Secrets by source, out of the forms in which they are handed over.

The law of this file: one text may hold several secrets and several sources, but never means two things; what could
is refused, and every spelling of a source is the same source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from pydantic import SecretStr

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.secret_text import FILE, bare, from_environment, no_secret
from classifaily_connectors.store.source import DEFAULT, checked_source

VARIABLE = "CLASSIFAILY_WEBHOOK_SECRET"
FILE_VARIABLE = "CLASSIFAILY_WEBHOOK_SECRETS_FILE"
SHORTEST = 16
"""Bytes; a shorter secret could be guessed from one delivery that somebody saw."""

Given = str | SecretStr | Iterable[str | SecretStr]
BySource = dict[str, tuple[SecretStr, ...]]
# What other tools call a secret, or the place of one: as a source it would leave the default one without its secret.
_NO_SOURCES = frozenset(
    [
        "file",
        "path",
        "arn",
        "url",
        "uri",
        "ref",
        "secret",
        "secrets",
        "key",
        "value",
        "password",
        "token",
        "webhook_secret",
        "signing_secret",
    ]
)
_LINE = re.compile(rf"(?:export\s+)?{VARIABLE}(?:_(?P<source>[A-Za-z0-9_]+))?\s*=\s*(?P<value>.*)")
_REMARK = re.compile(r"#(\s|$|!)")


def from_arguments(given: Given | Mapping[str, Given]) -> BySource:
    """What a caller gave: the default source's, or a mapping of sources."""
    named = cast("Mapping[str, Given]", given) if isinstance(given, Mapping) else {DEFAULT: given}
    return _joined((word, _each(several, word)) for word, several in named.items())


def from_variables(environ: Mapping[str, str]) -> tuple[BySource, dict[str, str]]:
    """The secrets that the environment holds; and the variables that name a file instead, with their sources."""
    held: list[tuple[str, list[SecretStr]]] = []
    files: dict[str, str] = {}
    # An empty one is left empty by whoever fills in a template; alone, it is a secret that is missing.
    others = any(value.strip() for name, value in environ.items() if name.startswith(VARIABLE))
    for variable in sorted(environ):
        if variable == VARIABLE + FILE or (variable.startswith(f"{VARIABLE}_") and variable.endswith(FILE)):
            base = variable.removesuffix(FILE)
            if environ[variable].strip():
                from_environment(base, environ)  # refuses a file beside a value, and one that cannot be read
                files[variable] = checked_source(_source_of(base))
        elif variable == VARIABLE or variable.startswith(f"{VARIABLE}_"):
            if others and not environ[variable].strip():
                continue
            source = _source_of(variable)
            held += (from_text(environ[variable], source) or {source: []}).items()
    return _joined(held), files


def from_text(text: str, source: str = DEFAULT) -> dict[str, list[SecretStr]]:
    """The secrets in a variable's value or a file: lines or commas between those of `source`, lines of NAME=value as
    in an .env file, or JSON: one text, a list, or a mapping by source. Empty when there is none.

    Raises ConfigurationError when it is none of these.
    """
    text = text.strip().removeprefix("\ufeff").strip()
    if text[:1] in ("{", "[", '"') and not text.startswith(("{{", "{%", "{resolve")):
        wire = _json(text)
        if isinstance(wire, dict):
            if not wire:
                raise ConfigurationError("the webhook secrets cannot be read: the JSON names no source")
            return _merged((_source_of(word), _listed(value)) for word, value in cast("dict[str, Any]", wire).items())
        if isinstance(wire, list):
            return {source: _listed(cast("object", wire))}
    return _merged(_lines(text, source))


def is_settings_file(text: str) -> bool:
    """Whether it holds lines of NAME=value, as an .env file does."""
    return any(_LINE.fullmatch(line.strip()) for line in text.splitlines())


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text.startswith("{"):
        raise ConfigurationError("the webhook secrets cannot be read: they are neither lines of text nor JSON")
    return None


def _lines(text: str, source: str) -> Iterator[tuple[str, list[SecretStr]]]:
    whole = bare(text)
    for line in map(str.strip, whole.splitlines()):
        if not line or _REMARK.match(line):
            continue
        named = _LINE.fullmatch(line)
        value = bare(named["value"] if named else line)
        several = [each for each in value.split(",") if each.strip()]
        yield (_source_of(named["source"] or DEFAULT) if named else source), [SecretStr(bare(each)) for each in several]


def _listed(value: object) -> list[SecretStr]:
    several = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in several):
        raise ConfigurationError("the webhook secrets cannot be read: a secret in JSON is a text, or a list of texts")
    return [SecretStr(str(each)) for each in several]


def _source_of(word: str) -> str:
    """The source that a variable's name or a key of JSON means."""
    word = DEFAULT if word.upper() == VARIABLE else word[len(VARIABLE) + 1 :] if _prefixed(word) else word
    if word.strip().lower().replace("-", "_") in _NO_SOURCES:
        raise ConfigurationError(
            f"{word!r} cannot be a webhook source, as tools call other things so. A file with the secret goes into "
            f'{VARIABLE}{FILE}, the secret itself into {VARIABLE}, and JSON is by source: {{"default": "..."}}'
        )
    return word


def _prefixed(word: str) -> bool:
    return word.upper().startswith(f"{VARIABLE}_")


def _each(given: Given, word: str) -> list[SecretStr]:
    several = [given] if isinstance(given, str | SecretStr) else given
    try:
        found = [each if isinstance(each, SecretStr) else SecretStr(each) for each in several]
    except TypeError:
        found = []
    if any(not isinstance(each.get_secret_value(), str) for each in found):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"a webhook secret of source {word!r} is no text")
    return found


def _merged(found: Iterable[tuple[str, list[SecretStr]]]) -> dict[str, list[SecretStr]]:
    merged: dict[str, list[SecretStr]] = {}
    for source, several in found:
        merged.setdefault(source, []).extend(several)
    return merged


def _joined(found: Iterable[tuple[str, list[SecretStr]]]) -> BySource:
    joined: BySource = {}
    for word, several in found:
        name = checked_source(word)
        joined[name] = unique((*joined.get(name, ()), *checked(name, several)))
    return joined


def checked(source: str, several: Iterable[SecretStr]) -> tuple[SecretStr, ...]:
    """Secrets that may be used. Raises ConfigurationError for one that could be guessed, or is none."""
    found = tuple(SecretStr(bare(each.get_secret_value())) for each in several)
    for each in found:
        problem = None if len(each.get_secret_value()) < SHORTEST else no_secret(each.get_secret_value())
        if problem:
            raise ConfigurationError(
                f"a webhook secret of source {source!r} {problem}: give the secret itself in {VARIABLE}, "
                f"or the name of a file that holds it in {VARIABLE}{FILE}"
            )
    if not found or any(len(each.get_secret_value().encode("utf-8", "replace")) < SHORTEST for each in found):
        raise ConfigurationError(
            f"a webhook secret of source {source!r} is empty or shorter than {SHORTEST} bytes: "
            f"take the one that ClassifAIly gave for the endpoint ({VARIABLE})"
        )
    return found


def unique(secrets: Iterable[SecretStr]) -> tuple[SecretStr, ...]:
    """Each once, in their order."""
    return tuple({each.get_secret_value(): each for each in secrets}.values())

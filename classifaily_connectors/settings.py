"""Where the key and the address come from: an argument, else the environment.

The law of this file: nonsense is refused here, before any request, with the name of the setting and the fix; and the
key is wrapped at once, so that nothing that prints, logs or pickles settings can show it.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from dataclasses import dataclass, field
from typing import NoReturn, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.secret_text import FILE, bare, from_environment, is_masked, no_secret

BASE_URL = "https://api.classifaily.com/v1"
OTHER_BASE_URL = "https://classifaily.com/api/v1"
BASE_URL_HINT = f"The API is documented at {BASE_URL} and at {OTHER_BASE_URL}: check base_url or CLASSIFAILY_BASE_URL"
KEY_VARIABLES = ("CLASSIFAILY_KEY", "CLASSIFAILY_API_KEY")
KEY_PREFIX = "cai_live_"
ARGUMENT = "the argument api_key"
"""Where a key has come from, unless something else is said."""
MAX_TIMEOUT = 1e9
"""Seconds: sockets overflow a little above."""

PROXY_VARIABLES = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"
_DOCUMENTED = {urlsplit(each).hostname: urlsplit(each).path for each in (BASE_URL, OTHER_BASE_URL)}
_ENDPOINTS = ("/classify", "/batch", "/schemas", "/jobs", "/usage", "/webhooks")

logger = logging.getLogger("classifaily_connectors")


class ApiKey(SecretStr):
    """A key that is neither printed nor pickled: a pickle holds its content in the clear."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key cannot be pickled: let the other process read CLASSIFAILY_KEY for itself")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked key, address and timeout; safe to print, and refused by pickle.

    `key_source` says in words where the key came from, for the error that refuses it.
    """

    api_key: ApiKey
    base_url: str
    timeout: float | None = None
    key_source: str = field(default=ARGUMENT, compare=False)

    @classmethod
    def resolve(
        cls,
        api_key: str | SecretStr | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        *,
        key_source: str | None = None,
    ) -> Settings:
        """Arguments win over the environment (CLASSIFAILY_KEY or CLASSIFAILY_KEY_FILE, CLASSIFAILY_BASE_URL).

        `key_source` says where whoever gives `api_key` has it from, such as "the Airflow connection x".

        Raises ConfigurationError when no key is found, or when key, address or timeout cannot work.
        """
        # First of all: a traceback printed with its locals shows this frame too.
        given, key_source = as_secret(api_key), key_source or ARGUMENT
        del api_key
        if given is None:
            given, key_source = _key_from_environment()
        return cls(
            _checked_key(given),
            checked_base_url(base_url or os.environ.get("CLASSIFAILY_BASE_URL") or BASE_URL),
            _checked_timeout(timeout),
            key_source,
        )


def as_secret(value: str | SecretStr | None) -> SecretStr | None:
    """`value`, wrapped so that printing cannot show it."""
    return SecretStr(value) if isinstance(value, str) else value


def _key_from_environment() -> tuple[SecretStr, str]:
    """The key that the environment has, empty without one, and in words where it has it."""
    for name in KEY_VARIABLES:
        if key := as_secret(from_environment(name)):
            return key, words_for_variable(name)
    return SecretStr(""), ""


def words_for_variable(name: str) -> str:
    """Where what `from_environment` gave for `name` has come from."""
    in_file = os.environ.get(name + FILE, "").strip()
    return f"the file that {name}{FILE} names" if in_file else f"the environment variable {name}"


def _checked_key(given: SecretStr) -> ApiKey:
    key = bare(given.get_secret_value())
    problem = None
    if not key:
        problem = f"no API key: pass api_key or set {KEY_VARIABLES[0]} (create one under API Keys in the dashboard)"
    elif is_masked(key):
        problem = (
            "api_key is masked, as platforms show a secret: pass the key itself, or the name of the block or "
            "connection that holds it"
        )
    elif not key.isascii() or not key.isprintable() or " " in key:
        problem = "api_key holds a blank, a control or a non-ASCII character: copy it again from the dashboard"
    elif not key.startswith(KEY_PREFIX) and (reason := no_secret(key)):
        problem = (
            f"api_key {reason}: give the key itself, or the name of a file that holds it in {KEY_VARIABLES[0]}{FILE}"
        )
    wrapped = ApiKey(key)
    foreign = not key.startswith(KEY_PREFIX)
    del key  # a traceback printed with its locals must not hold the bare key
    if problem:
        raise ConfigurationError(problem)
    if foreign:
        logger.warning("the API key does not start with %s: is it a ClassifAIly key?", KEY_PREFIX)
    return wrapped


def checked_base_url(url: str) -> str:
    """`url`, the API's, without its trailing slash.

    Raises ConfigurationError for what `checked_address` refuses, and for the address of an endpoint or another page.
    """
    trimmed = checked_address(url)
    if trimmed.endswith(_ENDPOINTS):
        raise ConfigurationError(f"base_url ends in an endpoint: leave out /{trimmed.rpartition('/')[2]}")
    parts = urlsplit(trimmed)
    path = _DOCUMENTED.get(parts.hostname or "")
    if path is not None and parts.path != path:
        raise ConfigurationError(
            f"base_url has another path than the API: it is {parts.scheme}://{parts.hostname}{path}"
        )
    return trimmed


def checked_address(url: str) -> str:
    """`url`, the API's or a receiver's, without its trailing slash.

    Raises ConfigurationError unless it is https (http on loopback) with a host and without user, query or fragment.
    """
    trimmed = url.strip().rstrip("/")
    try:
        parts = urlsplit(trimmed)
        host = parts.hostname
        parts.port  # noqa: B018  # raises on nonsense
    except ValueError:
        parts, host = urlsplit(""), None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"base_url must look like {BASE_URL}, not like {_redacted(trimmed)!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("base_url must not carry a user, a query or a fragment: the key goes in api_key")
    if parts.scheme == "http" and not is_loopback(host):
        shown = _redacted(host)
        raise ConfigurationError(f"base_url must be https: the key would cross the network in the clear to {shown}")
    return trimmed


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _redacted(url: str) -> str:
    # A key pasted into the wrong field must not be shown back.
    return "(something like an API key)" if KEY_PREFIX in url.lower() else url


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= MAX_TIMEOUT:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"timeout is {timeout!r}; it must be a positive number of seconds")
    return float(timeout)

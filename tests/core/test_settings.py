"""Settings: where they come from, and what is refused before any request; the key is never shown."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

import classifaily_connectors as cc
from classifaily_connectors.settings import BASE_URL, Settings, as_secret, checked_base_url, is_loopback

if TYPE_CHECKING:
    from conftest import Canned

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
OTHER = "cai_live_ffffffffffffffffffffffffffffffffffffffff"


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("CLASSIFAILY_KEY", "CLASSIFAILY_API_KEY", "CLASSIFAILY_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def key_of(settings: Settings) -> str:
    return settings.api_key.get_secret_value()


@pytest.mark.parametrize("variable", ["CLASSIFAILY_KEY", "CLASSIFAILY_API_KEY"])
def test_the_key_comes_from_the_environment(variable: str, env: pytest.MonkeyPatch) -> None:
    env.setenv(variable, f" {KEY}\n")
    assert key_of(Settings.resolve()) == KEY
    assert key_of(Settings.resolve(OTHER)) == OTHER


def test_the_documented_variable_comes_first(env: pytest.MonkeyPatch) -> None:
    env.setenv("CLASSIFAILY_API_KEY", OTHER)
    env.setenv("CLASSIFAILY_KEY", KEY)
    assert key_of(Settings.resolve()) == KEY
    env.setenv("CLASSIFAILY_KEY", "")
    assert key_of(Settings.resolve()) == OTHER


SOURCES: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "argument": ({"api_key": KEY}, {"CLASSIFAILY_KEY": OTHER}, "the argument api_key"),
    "whoever gives it": ({"api_key": KEY, "key_source": "the vault x"}, {}, "the vault x"),
    "variable": (
        {},
        {"CLASSIFAILY_KEY": KEY, "CLASSIFAILY_API_KEY": OTHER},
        "the environment variable CLASSIFAILY_KEY",
    ),
    "other variable": ({}, {"CLASSIFAILY_API_KEY": KEY}, "the environment variable CLASSIFAILY_API_KEY"),
    "file": ({}, {"CLASSIFAILY_KEY_FILE": "key.txt"}, "the file that CLASSIFAILY_KEY_FILE names"),
}


@pytest.mark.parametrize("given", SOURCES)
def test_a_refused_key_is_told_where_it_came_from(
    given: str, env: pytest.MonkeyPatch, canned: Canned, tmp_path: Path
) -> None:
    arguments, variables, source = SOURCES[given]
    (tmp_path / "key.txt").write_text(KEY)
    env.chdir(tmp_path)
    for name, value in variables.items():
        env.setenv(name, value)
    canned.say(401, {"error": {"code": "unauthorized", "message": "API key has been revoked."}})

    def ask() -> None:
        with cc.ClassifailyClient(**arguments, base_url=canned.url) as client:
            client.usage()

    async def ask_later() -> None:
        async with cc.AsyncClassifailyClient(**arguments, base_url=canned.url) as client:
            await client.usage()

    for call in (ask, lambda: asyncio.run(ask_later())):
        with pytest.raises(cc.AuthenticationError, match=f"the key came from {source}: check it there") as caught:
            call()
        assert caught.value.key_source == source
        assert KEY[-4:] not in f"{caught.value!r} {caught.value}"


def test_an_empty_argument_does_not_fall_back(env: pytest.MonkeyPatch) -> None:
    """A secret that resolves to nothing must not silently become another account's key."""
    env.setenv("CLASSIFAILY_KEY", KEY)
    for empty in ("", "  ", SecretStr("")):
        with pytest.raises(cc.ConfigurationError, match="no API key"):
            Settings.resolve(empty)


def test_the_address_comes_from_argument_environment_or_the_documentation(env: pytest.MonkeyPatch) -> None:
    assert Settings.resolve(KEY).base_url == BASE_URL == "https://api.classifaily.com/v1"
    env.setenv("CLASSIFAILY_BASE_URL", "https://classifaily.com/api/v1/")
    assert Settings.resolve(KEY).base_url == "https://classifaily.com/api/v1"
    assert Settings.resolve(KEY, "https://example.org").base_url == "https://example.org"


@pytest.mark.parametrize("given", [f"\t{KEY} ", SecretStr(f"{KEY}\n")])
def test_keys_are_stripped(given: Any, env: pytest.MonkeyPatch) -> None:
    assert key_of(Settings.resolve(given)) == KEY


@pytest.mark.parametrize(
    "odd", ["cai_live_ 0123", "cai_live_01\n23", "cai_live_é123", "cai_live_\x0023", "cai\u200blive"]
)
def test_keys_no_header_can_carry_are_refused(odd: str, env: pytest.MonkeyPatch) -> None:
    with pytest.raises(cc.ConfigurationError, match="api_key holds") as caught:
        Settings.resolve(odd)
    assert odd not in str(caught.value)


def test_a_missing_key_names_the_variable(env: pytest.MonkeyPatch) -> None:
    for client in (cc.ClassifailyClient, cc.AsyncClassifailyClient):
        with pytest.raises(cc.ConfigurationError, match="CLASSIFAILY_KEY"):
            client()


def test_a_foreign_key_is_warned_of_once_seen_and_never_shown(
    env: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="classifaily_connectors"):
        Settings.resolve(KEY)
        assert caplog.records == []
        Settings.resolve("sk-proj-4711")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cai_live_" in caplog.text
    assert "4711" not in caplog.text


def test_settings_may_be_printed(env: pytest.MonkeyPatch) -> None:
    settings = Settings.resolve(KEY, timeout=3)
    assert "0123456789" not in repr(settings) + str(settings) + repr(vars(type(settings)))
    assert settings.timeout == 3.0


def test_secrets_are_wrapped_once() -> None:
    secret = as_secret(KEY)
    assert isinstance(secret, SecretStr)
    assert as_secret(secret) is secret
    assert as_secret(None) is None


@pytest.mark.parametrize(
    "mask", ["**********", "cai_live_***", "\u2022" * 8, "cai_live_...", "<hidden>", "cai_live_\u2026"]
)
def test_a_masked_key_is_refused(mask: str, env: pytest.MonkeyPatch) -> None:
    """A copied form field or a printed block gives one, and the API would only say that the key is not valid."""
    with pytest.raises(cc.ConfigurationError, match="api_key is masked.*the name of the block or connection"):
        Settings.resolve(mask)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.classifaily.com/v1", "https://api.classifaily.com/v1"),
        (" https://api.classifaily.com/v1// ", "https://api.classifaily.com/v1"),
        ("https://example.org:8443", "https://example.org:8443"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("http://localhost/v1", "http://localhost/v1"),
        ("HTTPS://example.org/v1", "HTTPS://example.org/v1"),
    ],
)
def test_addresses_that_work(url: str, kept: str) -> None:
    assert checked_base_url(url) == kept


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "must look like"),
        ("api.classifaily.com/v1", "must look like"),
        ("ftp://api.classifaily.com", "must look like"),
        ("https://", "must look like"),
        ("https:///v1", "must look like"),
        ("https://[::1", "must look like"),
        ("https://example.org:port/v1", "must look like"),
        ("https://example.org:99999", "must look like"),
        ("file:///etc/hosts", "must look like"),
        ("http://api.classifaily.com/v1", "must be https"),
        ("http://10.0.0.1/v1", "must be https"),
        ("http://localhost.example.org", "must be https"),
        ("http://127.0.0.1.example.org", "must be https"),
        ("http://0.0.0.0", "must be https"),
        ("https://me:pass@example.org", "must not carry a user"),
        ("https://example.org?key=1", "must not carry"),
        ("https://example.org/#here", "must not carry"),
    ],
)
def test_addresses_that_cannot_work(url: str, told: str) -> None:
    with pytest.raises(cc.ConfigurationError, match=f"base_url {told}"):
        checked_base_url(url)


def test_a_key_in_the_wrong_field_is_not_shown_back(env: pytest.MonkeyPatch) -> None:
    for misplaced in (KEY, f"https://{KEY}:x@example.org", f"https://example.org/?key={KEY}", f"http://{KEY}.org"):
        with pytest.raises(cc.ConfigurationError) as caught:
            Settings.resolve(OTHER, misplaced)
        assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "10.0.0.1", "localhost.example.org", "::", "127.0.0.1.example.org"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "timeout", [0, -1, math.nan, math.inf, True, "5", 1e10, 10**400], ids=lambda timeout: repr(timeout)[:6]
)
def test_timeouts_that_cannot_work(timeout: Any, env: pytest.MonkeyPatch) -> None:
    with pytest.raises(cc.ConfigurationError, match="timeout is"):
        Settings.resolve(KEY, timeout=timeout)


def test_refusals_are_value_errors_that_sent_nothing(env: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        Settings.resolve()
    assert isinstance(caught.value, cc.ClassifailyError)
    assert caught.value.outcome == "not_sent"

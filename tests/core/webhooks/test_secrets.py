"""Where the secrets come from, what is refused, and how one is replaced by another without a restart."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from classifaily_connectors import ConfigurationError
from classifaily_connectors.webhooks.receiver import Receiver
from classifaily_connectors.webhooks.secrets import Secrets, feed_token, source_name

NEW, OLD, OTHER = "whsec-new-0123456789", "whsec-old-0123456789", "whsec-other-0123456789"


def told(secrets: Secrets, source: str = "default") -> list[str]:
    return [each.get_secret_value().strip() for each in secrets.of(source)]


def test_arguments_in_every_form() -> None:
    assert told(Secrets(NEW)) == [NEW]
    assert told(Secrets([NEW, SecretStr(OLD)])) == [NEW, OLD]
    several = Secrets({"default": [NEW, OLD], "Staging-EU": OTHER})
    assert several.sources == ["default", "staging_eu"]
    assert told(several, "staging_eu") == [OTHER]
    assert told(several, "unknown") == []


def test_the_environment_names_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Secrets()
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", f"{NEW}, {OLD}")
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET_STAGING_EU", OTHER)
    secrets = Secrets()
    assert (told(secrets), told(secrets, "staging_eu")) == ([NEW, OLD], [OTHER])
    assert told(Secrets(OTHER)) == [OTHER]  # an argument wins


@pytest.mark.parametrize("given", ["", " ", "too short", [], [NEW, ""], {"default": "short"}, {"default": []}])
def test_what_could_be_guessed_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="empty or shorter than 16 bytes") as caught:
        Secrets(given)
    assert NEW not in str(caught.value)


@pytest.mark.parametrize("text", ["", "short", " , "])
def test_the_environment_is_held_to_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", text)
    with pytest.raises(ConfigurationError, match="empty or shorter"):
        Secrets()


def test_a_receiver_without_a_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set CLASSIFAILY_WEBHOOK_SECRET"):
        Receiver(f"sqlite:///{tmp_path}/inbox.db")


@pytest.mark.parametrize("word", ["feed", "-", "_", "", "a/b", "ä", "x" * 65, "a b", "FEED"])
def test_no_name_of_a_source(word: str) -> None:
    assert source_name(word) is None
    with pytest.raises(ConfigurationError, match="cannot be a webhook source"):
        Secrets({word: NEW})


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"{OLD}\n\n")
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRETS_FILE", str(file))
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", OTHER)
    secrets = Secrets()
    assert told(secrets) == [OLD, OTHER]
    replace(file, f"{NEW},{OLD}")
    assert told(secrets) == [NEW, OLD, OTHER]
    replace(file, f'{{"default": "{NEW}", "staging": ["{OLD}"]}}')
    assert (told(secrets), told(secrets, "staging")) == ([NEW, OTHER], [OLD])


@pytest.mark.parametrize("text", ["", "short", "{", "{}", '{"default": []}', '{"feed": "whsec-0123456789"}', "{} {}"])
def test_a_file_that_was_spoilt_leaves_the_last_good_secrets(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secrets"
    file.write_text(NEW)
    secrets = Secrets(file=file)
    replace(file, text)
    with caplog.at_level(logging.INFO, "classifaily_connectors"):
        assert [told(secrets), told(secrets)] == [[NEW], [NEW]]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "stay in force" in caplog.text
    with pytest.raises(ConfigurationError):
        Secrets(file=file)
    file.unlink()
    assert told(secrets) == [NEW]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere cannot be read: No such file"):
        Secrets(file=tmp_path / "nowhere")


def test_nothing_prints_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "secrets"
    file.write_text(NEW)
    secrets = Secrets(file=file)
    replace(file, OLD)
    with caplog.at_level(logging.DEBUG):
        secrets.of("default")
    shown = caplog.text + repr(secrets) + repr(Receiver(f"sqlite:///{tmp_path}/inbox.db", secrets))
    assert "default: 1" in shown
    assert NEW not in shown
    assert OLD not in shown


def test_the_token_of_the_feed_gives_no_secret_away() -> None:
    assert feed_token(NEW) == feed_token(SecretStr(f" {NEW}\n"))
    assert len({feed_token(NEW), feed_token(OLD)}) == 2
    assert NEW not in feed_token(NEW)


def replace(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)

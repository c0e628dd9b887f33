"""A secret in a form in which it commonly arrives is understood; what only says where it lies is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classifaily_connectors import ConfigurationError, InvalidRequestError
from classifaily_connectors.operations import account
from classifaily_connectors.operations.context import Context
from classifaily_connectors.settings import Settings, as_secret
from classifaily_connectors.webhooks import sign, verify
from classifaily_connectors.webhooks.secrets import Secrets, feed_token

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "whsec-other-0123456789"
KEY = "cai_live_" + "0" * 40
VARIABLE = "CLASSIFAILY_WEBHOOK_SECRET"


def told(secrets: Secrets, source: str = "default") -> list[str]:
    return [each.get_secret_value() for each in secrets.of(source)]


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}\n",
        f"{SECRET}\r\n",
        f'"{SECRET}"',
        f"'{SECRET}'",
        f"“{SECRET}”",
        f"\ufeff{SECRET}",
        f"{VARIABLE}={SECRET}",
        f'export {VARIABLE}="{SECRET}"\n',
        f"# newest first\n{SECRET}\n",
        json.dumps([SECRET]),
        json.dumps(SECRET),
        json.dumps({"default": SECRET}),
        "\ufeff" + json.dumps({"Default": [SECRET]}),
        json.dumps({VARIABLE: SECRET}),
    ],
)
def test_common_forms_are_one_secret(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    for encoding in ("utf-8", "utf-16"):
        file.write_bytes(text.encode(encoding))
        assert told(Secrets({}, file=file)) == [SECRET]
    monkeypatch.setenv(VARIABLE, text)
    assert told(Secrets()) == [SECRET]


REFERENCES = [
    "/run/secrets/classifaily",
    "./webhook_secret",
    "~/secrets/webhook",
    "C:\\secrets\\webhook.txt",
    "run/secrets/webhook_secret",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:classifaily",
    "https://vault.example.com/v1/secret/data/webhook",
    "op://vault/classifaily/webhook",
    "projects/12/secrets/webhook/versions/latest",
    "vault:secret/data/classifaily#webhook",
    "${CLASSIFAILY_WEBHOOK_SECRET}",
    "$CLASSIFAILY_WEBHOOK_SECRET",
    "{{ var.value.webhook_secret }}",
    "prefix-${SECRET_OF_THE_WEBHOOK}",
    "<your-webhook-secret>",
    "your-webhook-secret-goes-here",
    "********************",
    "WEBHOOK_SECRET=0123456789abcdef",
    "default: 0123456789abcdef",
    f"{SECRET} # newest",
    f"{SECRET}\\n",
    f"{SECRET[:16]}\u200b{SECRET[16:]}",
    "@Microsoft.KeyVault(SecretUri=https://x.vault.azure.net/secrets/webhook)",
]


@pytest.mark.parametrize("text", REFERENCES)
def test_what_says_where_a_secret_lies_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text(text)
    for take in (lambda: Secrets(text), lambda: Secrets({}, file=file), lambda: Secrets({"staging": [text]})):
        with pytest.raises(ConfigurationError) as caught:
            take()
        assert text not in str(caught.value)
    for name in (VARIABLE, f"{VARIABLE}_STAGING", f"{VARIABLE}_EU_PATH"):
        with monkeypatch.context() as patch:
            patch.setenv(name, text)
            with pytest.raises(ConfigurationError, match=f"{VARIABLE}_FILE"):
                Secrets()
    with pytest.raises(InvalidRequestError, match="secret") as refused:
        next(account.create_webhook(Context(), "https://example.org/h", secret=as_secret(text)))
    assert text not in str(refused.value)


def test_a_secret_of_random_characters_may_begin_with_a_slash(tmp_path: Path) -> None:
    random = "/xJQQt5ebWEmTPUyNT//PShHsFXptPO+n56Fq94wF0E="
    assert told(Secrets(random)) == [random]


def test_a_variable_may_name_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = tmp_path / "webhook_secret", tmp_path / "other"
    file.write_text(f"{SECRET}\n")
    other.write_text(f"{OTHER}\n")
    monkeypatch.setenv(f"{VARIABLE}_FILE", str(file))
    monkeypatch.setenv(f"{VARIABLE}_STAGING_EU_FILE", str(other))
    secrets = Secrets()
    assert secrets.sources == ["default", "staging_eu"]
    assert (told(secrets), told(secrets, "staging-eu")) == ([SECRET], [OTHER])
    new = tmp_path / "new"
    new.write_text(f"{OTHER}-new\n")
    new.replace(file)  # as an orchestrator replaces a mounted secret
    assert told(secrets) == [f"{OTHER}-new"]
    monkeypatch.setenv(VARIABLE, SECRET)
    with pytest.raises(ConfigurationError, match="both set"):
        Secrets()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(f"{VARIABLE}_FILE", SECRET)  # the secret where the file's name should be: not shown
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        Secrets()
    assert SECRET not in str(caught.value)


def test_an_empty_variable_beside_another_one_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets").write_text(SECRET)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv(f"{VARIABLE}_STAGING", "  ")
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRETS_FILE", str(tmp_path / "secrets"))
    assert Secrets().sources == ["default"]


@pytest.mark.parametrize("word", ["PATH", "ARN", "KEY"])
def test_what_tools_call_the_place_of_a_secret_is_no_source(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{VARIABLE}_{word}", SECRET)
    with pytest.raises(ConfigurationError, match="cannot be a webhook source"):
        Secrets()


@pytest.mark.parametrize("text", ['{"secret": "%s"}', '{"webhook_secret": ["%s"]}', '{"default": {"new": "%s"}}'])
def test_json_that_is_not_by_source_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(text % SECRET)
    with pytest.raises(ConfigurationError):
        Secrets({}, file=file)


def test_every_spelling_is_the_same_source() -> None:
    secrets = Secrets({"eu-west": SECRET, "EU_WEST": OTHER, "eu_west": SECRET})
    assert secrets.sources == ["eu_west"]
    assert told(secrets, "Eu-West") == [SECRET, OTHER]


@pytest.mark.parametrize("given", [f"{SECRET}\n", f'"{SECRET}"', f"\ufeff{SECRET}"])
def test_both_ends_read_a_secret_alike(given: str) -> None:
    send = next(account.create_webhook(Context(), "https://example.org/h", secret=as_secret(given)))
    assert json.loads(send.body)["secret"] == SECRET  # type: ignore[union-attr]
    verify(b"{}", {"X-ClassifAIly-Signature": sign(b"{}", SECRET)}, given)
    assert feed_token(given) == feed_token(SECRET)


def test_a_comma_in_a_secret_is_refused_where_the_endpoint_is_made() -> None:
    with pytest.raises(InvalidRequestError, match="comma"):
        next(account.create_webhook(Context(), "https://example.org/h", secret=as_secret(f"{SECRET},{OTHER}")))


def test_the_key_is_read_by_the_same_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf" + f'"{KEY}"\n'.encode())
    monkeypatch.setenv("CLASSIFAILY_KEY_FILE", str(file))
    assert Settings.resolve().api_key.get_secret_value() == KEY
    monkeypatch.setenv("CLASSIFAILY_KEY", KEY)
    with pytest.raises(ConfigurationError, match="both set"):
        Settings.resolve()
    monkeypatch.delenv("CLASSIFAILY_KEY_FILE")
    for text in ("/run/secrets/classifaily", "op://vault/classifaily/key", "${CLASSIFAILY_KEY}"):
        with pytest.raises(ConfigurationError, match="CLASSIFAILY_KEY_FILE") as caught:
            Settings.resolve(text)
        assert text not in str(caught.value)

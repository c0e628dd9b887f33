"""Passwords in URLs: every way they may be written is known, and none is shown."""

from __future__ import annotations

import pytest

from classifaily_connectors.redaction import shown_url, url_secrets

DATABASE = "127.0.0.1:5432/labels"


@pytest.mark.parametrize(
    ("url", "secrets", "shown"),
    [
        (f"postgresql://label:s3cret@{DATABASE}", {"s3cret"}, f"postgresql://label:***@{DATABASE}"),
        (
            f"postgresql+psycopg://label:p%40ss%2Fword@{DATABASE}",
            {"p%40ss%2Fword", "p@ss/word", "p%40ss/word"},
            f"postgresql+psycopg://label:***@{DATABASE}",
        ),
        (
            f"postgresql://{DATABASE}?user=label&password=a%20b&sslmode=require",
            {"a%20b", "a b", "a+b"},
            f"postgresql://{DATABASE}?user=label&password=***&sslmode=require",
        ),
        (f"postgresql://label:not/encoded@{DATABASE}", {"not/encoded"}, f"postgresql://label:***@{DATABASE}"),
        (f"postgresql://label:one@{DATABASE}?sslpassword=two", {"one", "two"}, None),
        (f'postgresql://label:quo"te@{DATABASE}', {'quo"te', 'quo\\"te', "quo%22te"}, None),
        (f"postgresql://label@{DATABASE}", set(), f"postgresql://label@{DATABASE}"),
        ("sqlite:////var/lib/labels.db", set(), "sqlite:////var/lib/labels.db"),
        ("no URL at all", set(), "no URL at all"),
        ("", set(), ""),
    ],
)
def test_every_form_of_a_password_is_known_and_none_is_shown(url: str, secrets: set[str], shown: str | None) -> None:
    found = url_secrets(url)
    assert secrets <= set(found)
    assert bool(found) == bool(secrets)
    assert not [each for each in found if each in shown_url(url)]
    assert shown is None or shown_url(url) == shown

"""Schemas as files: read, compared and applied against the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classifaily_connectors import ClassifailyClient, ConfigurationError, InvalidRequestError
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.schema_files import apply, plan, read

TOPICS = """
name: Ticket topics
description: routes tickets
type: text
categories:
  - name: billing
    description: Payments, refunds
    examples: [charged twice]
  - technical
  - general
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "topics.yaml").write_text(TOPICS)
    (tmp_path / "more.json").write_text(
        json.dumps([{"name": "Yes or no", "categories": ["yes", "no"], "mode": "multi"}])
    )
    (tmp_path / "notes.txt").write_text("not a schema")
    return tmp_path


def test_plan_apply_plan(folder: Path) -> None:
    with Sandbox() as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        first = plan(read(folder), client.schemas.list())
        assert [(each.kind, each.wanted.name) for each in first] == [
            ("create", "Yes or no"),
            ("create", "Ticket topics"),
        ]
        assert client.schemas.list() == [], "planning changes nothing"
        told: list[str] = []
        assert apply(client, first, lambda change: told.append(change.wanted.name)) == 2
        assert told == ["Yes or no", "Ticket topics"]
        again = plan(read(folder), client.schemas.list())
        assert {each.kind for each in again} == {"same"}
        assert apply(client, again) == 0

        (folder / "topics.yaml").write_text(
            TOPICS.replace("charged twice", "billed twice").replace("technical", "tech")
        )
        change = plan(read(folder / "topics.yaml"), client.schemas.list())[0]
        assert change.kind == "update"
        assert change.lines == (
            "- technical", "+ tech", "- billing.examples: charged twice", "+ billing.examples: billed twice",
        )  # fmt: skip
        assert apply(client, [change]) == 1
        assert {each.kind for each in plan(read(folder), client.schemas.list())} == {"same"}
        assert len(client.schemas.list()) == 2


def test_namesakes_are_never_chosen_between(folder: Path) -> None:
    with Sandbox() as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        for names in (["a"], ["b"]):
            client.schemas.create("Ticket topics", names)
        (change,) = plan(read(folder / "topics.yaml"), client.schemas.list())
        assert change.kind == "ambiguous"
        with pytest.raises(InvalidRequestError, match="several schemas have this name"):
            apply(client, [change])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x", "categories is empty"),
        ("categories: [a]", "name is missing"),
        ("name: x\ncategories: [a]\ntype: pdf", "type is 'pdf'"),
        ("name: x\ncategories: [a]\nmode: top_n", "mode is 'top_n'"),
        ("name: x\ncategories: [a, a]", "names must be unique"),
        ("name: x\ncategories: [a]\nlabels: 3", "'labels' is no field"),
        ("- just text", "a schema is a mapping"),
        ("name: [", "parsing"),
    ],
)
def test_what_is_no_schema_is_named_with_its_file(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read(file)
    assert "bad.yaml" in str(caught.value)


def test_missing_empty_and_twice(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="no schema files"):
        read(tmp_path / "empty")
    (folder / "again.yml").write_text(TOPICS)
    with pytest.raises(ConfigurationError, match="is taken by"):
        read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\ncategories: [x, y]\n", "line 2: the key 'name' stands there twice"),
        ("name: a\ncategories:\n- name: x\n  description: p\n  description: q\n- y\n", "line 5: the key 'description'"),
        ("name: a\ncategories: [caf\u00e9, cafe\u0301]\n", "in another Unicode spelling"),
        ("name: a\ncategories: [x, y\n", "topics.yaml"),
    ],
)
def test_what_yaml_would_pass_over_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "topics.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path / "topics.yaml")


def test_a_name_is_what_stands_there(tmp_path: Path) -> None:
    """YAML would make a truth value, a number and a date of these."""
    names = ["no", "404", "1.0", "2026-01-31", "null_value"]
    (tmp_path / "topics.yaml").write_text(f"name: on\ndescription: ~\ncategories: [{', '.join(names)}]\n")
    (schema,) = read(tmp_path / "topics.yaml")
    assert (schema.name, schema.description) == ("on", None)
    assert [each.name for each in schema.categories] == names


def test_several_documents_and_pieces_that_others_refer_to(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(
        "x-shared: &shared\n  type: text\n  mode: multi\nname: one\n<<: *shared\ncategories: [a, b]\n"
        "---\nname: two\ncategories: [c, d]\n---\nx-only: pieces\n"
    )
    assert [(each.name, each.mode) for each in read(tmp_path)] == [("one", "multi"), ("two", "single")]

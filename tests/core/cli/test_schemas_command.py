"""`classifaily schemas`: plan, apply, lint and codegen, as a process of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Command

    from classifaily_connectors.sandbox import Sandbox

pytestmark = pytest.mark.slow

TOPICS = """
name: Ticket topics
categories:
  - name: billing
    description: Payments, refunds
  - name: other
    description: Everything else
"""


@pytest.fixture
def topics(tmp_path: Path) -> Path:
    file = tmp_path / "topics.yaml"
    file.write_text(TOPICS)
    return file


def test_plan_apply_plan(run: Command, sandbox: Sandbox, topics: Path) -> None:
    planned = run("schemas", "plan", topics)
    assert (planned.code, planned.err) == (10, "")
    assert "Ticket topics: create" in planned.out
    assert "+ billing" in planned.out
    applied = run("schemas", "apply", topics, "--yes")
    assert applied.code == 0
    assert "1 changed." in applied.out
    again = run("schemas", "plan", topics)
    assert again.code == 0
    assert "as it is" in again.out
    topics.write_text(TOPICS.replace("Payments, refunds", "Money"))
    changed = run("schemas", "plan", topics)
    assert changed.code == 10
    assert "~ billing.description: Payments, refunds -> Money" in changed.out


def test_apply_asks_first(run: Command, topics: Path) -> None:
    assert run("schemas", "apply", topics).code != 0
    assert run("schemas", "plan", topics).code == 10, "nothing was changed"


def test_lint(run: Command, topics: Path) -> None:
    assert run("schemas", "lint", topics, "--strict").code == 0
    topics.write_text("name: x\ncategories: [refund, refunds]")
    warned = run("schemas", "lint", topics)
    assert warned.code == 0
    for rule in ("no-catch-all", "near-duplicate", "no-description"):
        assert rule in warned.out
    assert run("schemas", "lint", topics, "--strict").code == 10


def test_codegen(run: Command, topics: Path) -> None:
    written = run("schemas", "codegen", topics, "--name", "Topic")
    assert written.code == 0
    space: dict[str, Any] = {}
    exec(written.out, space)
    assert [str(member) for member in space["Topic"]] == ["billing", "other"]
    assert run("schemas", "apply", topics, "--yes").code == 0
    saved = re.search(r"\(schema (\d+)\)", run("schemas", "plan", topics).out)
    assert saved is not None
    assert run("schemas", "codegen", saved[1], "--name", "Topic").out == written.out


def test_trouble_is_one_line(run: Command, tmp_path: Path) -> None:
    missing = run("schemas", "plan", tmp_path / "nowhere.yaml")
    assert missing.code == 2
    assert missing.err.startswith("error: there is no file or folder")
    assert len(missing.err.splitlines()) == 1

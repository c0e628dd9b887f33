"""Every Python snippet of the root README that needs no orchestrator runs, as it stands, against the sandbox.

The other snippets run in the tests of their homes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from classifaily_connectors.sandbox import Sandbox

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
PLATFORMS = ("airflow", "prefect", "dagster")
PLAIN = [code for code in SNIPPETS if not any(f"from {name}" in code or f"import {name}" in code for name in PLATFORMS)]


def test_the_readme_has_a_snippet_for_each_platform_and_for_plain_python() -> None:
    assert len(SNIPPETS) == len(PLAIN) + len(PLATFORMS)
    assert len(PLAIN) >= 3


@pytest.mark.parametrize("code", PLAIN, ids=range(len(PLAIN)))
def test_a_snippet_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Sandbox(plan="starter") as sandbox:
        monkeypatch.setenv("CLASSIFAILY_KEY", sandbox.key)
        monkeypatch.setenv("CLASSIFAILY_BASE_URL", sandbox.base_url)
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        paid = sandbox.bill().charged
    printed = capsys.readouterr().out
    if "classify_many" in code:
        assert "2 of 3 rows cost a request" in printed
        assert "2 billed, 1 for free" in printed
        assert paid == 2
    elif "classify_table" in code:
        assert printed == "2 rows, 2 billed\n2 rows, 0 billed\n"
        assert paid == 2
    elif "wait_for_job" in code:
        assert printed == "billing by poll\n"
        assert paid == 1
    elif "sandbox" not in code:
        assert printed.startswith("billing ")
        assert "9999 requests left this month" in printed


def test_every_linked_page_exists() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []

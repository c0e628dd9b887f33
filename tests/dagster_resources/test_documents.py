"""Every example and every snippet of the two READMEs runs."""

import re
import runpy
import warnings
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import ClassifailyClient
from classifaily_connectors.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "dagster"
NAME = re.compile(r"def (\w+)")


def snippets(readme: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


SNIPPETS = snippets(ROOT / "dagster_resources" / "README.md")
SNIPPETS += [each for each in snippets(ROOT / "README.md") if "dagster" in each]


def run_all(namespace: dict[str, Any], **run_config: Any) -> int:
    """Run every job and materialize every asset of `defs`; gives how many ran."""
    jobs = namespace["defs"].get_repository_def().get_all_jobs()
    for job in jobs:
        assert job.execute_in_process(run_config=run_config).success
    return len(jobs)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: NAME.findall(text)[0])
def test_a_snippet_of_the_readme(
    sandbox: Sandbox, snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet, "README.md", "exec"), namespace)
    assert re.findall(r"(?:from|import) (\S+)", snippet), "a snippet says where its names come from"
    if "s3://" in snippet or "@dg.definitions" in snippet:
        return  # needs a bucket, or a project: that it defines is all there is to see
    if "def test_" in snippet:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a literal key: it is the sandbox's
            next(each for name, each in namespace.items() if name.startswith("test_"))()
    elif "FinishedJob" in snippet:
        with ClassifailyClient() as client:
            told = {"job_id": str(client.submit("I was charged twice.", categories=["billing"]).id)}
        assert run_all(namespace, ops={"newest_label": {"config": told}}) == 2  # its own job, and the sensor's
    elif "defs" in namespace:
        assert run_all(namespace) == 1
    else:
        (sensor,) = (each for each in namespace.values() if isinstance(each, dg.SensorDefinition))
        resources = {"classifaily": namespace["ClassifailyResource"]()}
        with dg.build_sensor_context(resources=resources) as context:
            assert isinstance(sensor(context), dg.RunRequest)


@pytest.mark.parametrize("name", ["classify_one", "many_at_once", "queued_video"])
def test_an_example(sandbox: Sandbox, name: str) -> None:
    assert run_all(runpy.run_path(str(EXAMPLES / f"{name}.py"))) == 1
    assert sandbox.bill().charged >= 1


def test_every_example_is_tested_here_or_elsewhere() -> None:
    elsewhere = {"support_tickets", "launch", "local_dagster", "finished_jobs"}
    here = {"classify_one", "many_at_once", "queued_video"}
    assert {file.stem for file in EXAMPLES.glob("*.py")} == here | elsewhere

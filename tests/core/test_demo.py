"""`examples/demo/run.py` as a process, with launchers of ours in the platforms' places and the sandbox in the API's."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from classifaily_connectors.sandbox import Sandbox

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
PLATFORMS = ("airflow", "prefect", "dagster")

LAUNCHER = """
import argparse, csv, json, os, subprocess, sys, time, urllib.request

SHAPE = "label confidence labels explanation route status source decided_by policy error job_id".split()
parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["demo"])
for name in ("input", "text", "output", "categories", "workdir"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--runs", type=int)
options = parser.parse_args()


def say(**event):
    print(json.dumps(event), flush=True)


def ask(path, body=None):
    headers = {"Authorization": "Bearer " + os.environ["CLASSIFAILY_KEY"], "Content-Type": "application/json"}
    url = os.environ["CLASSIFAILY_BASE_URL"] + path
    return json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)))


say(event="starting", unknown_field=1)
open(options.output + ".started", "w").write(json.dumps({"pid": os.getpid(), **os.environ}))
rows = list(csv.DictReader(open(options.input, newline="", encoding="utf-8")))
categories = json.load(open(options.categories))
say(event="ready", url="http://127.0.0.1:1/")
paid = {}
for run in range(1, options.runs + 1):
    #before
    texts = dict.fromkeys(row[options.text] for row in rows if row[options.text].strip())
    new = [text for text in texts if text not in paid]
    if new:
        items = [{"input": text} for text in new]
        paid.update(zip(new, ask("/batch", {"items": items, "categories": categories})["results"]))
    for row in rows:
        row.update(dict.fromkeys(SHAPE, ""), status="skipped", route="review")
        if answer := paid.get(row[options.text]):
            row.update(answer["result"], status=answer["status"], route="act")
    #after
    # As ours do: the demo reads the first run's table while the second one is written.
    with open(options.output + ".part", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(options.output + ".part", options.output)
    say(event="progress", run=run, done=len(rows), rows=len(rows))
    say(event="run_done", run=run, rows=len(rows), output=options.output, run_url="http://127.0.0.1:1/run")
"""

TABLE = [
    ("1", "I was charged twice, [bold]please[/bold] refund"),
    ("2", "the API returns a 500 error"),
    ("3", ""),
    ("4", "I was charged twice, [bold]please[/bold] refund"),
    ("5", 'forgot my "password"\nand my 📱'),
]


class Demo:
    """A checkout with nothing in it but the demo, a small table and our launchers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(EXAMPLES / "demo", root / "examples" / "demo", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "examples" / "data").mkdir()
        shutil.copy(EXAMPLES / "data" / "categories.json", root / "examples" / "data")
        self.write(root / "examples" / "data" / "support_tickets.csv", [("id", "body"), *TABLE])
        for platform in PLATFORMS:
            (root / ".venvs" / platform / "bin").mkdir(parents=True)
            (root / ".venvs" / platform / "bin" / "python").symlink_to(sys.executable)
            (root / "examples" / platform).mkdir()
            self.launcher(platform)

    def launcher(self, platform: str, *, before: str = "pass", after: str = "pass") -> None:
        """A launcher that does well, but for a line of its own before and after the work."""
        script = LAUNCHER.replace("#before", before).replace("#after", after)
        (self.root / "examples" / platform / "launch.py").write_text(script)

    @staticmethod
    def write(path: Path, rows: list[tuple[str, ...]]) -> Path:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        return path

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, f"{self.root}/examples/demo/run.py", *options]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFAILY_")}
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env={**clean, "COLUMNS": "200", **environment}, **streams)

    def run(self, *options: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*options, **environment) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def started(self, platform: str, folder: str = "demo") -> Path:
        return self.root / "build" / folder / f"{platform}.csv.started"


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def numbers(out: str, name: str) -> list[str]:
    (line,) = (line for line in out.splitlines() if line.startswith(name) and "ready" not in line)
    return line.split()[len(name.split()) :]


def test_the_table_counts_what_was_billed_and_all_agree(demo: Demo) -> None:
    code, out, err = demo.run("--rows", "", CLASSIFAILY_STORE_URL="sqlite:///own.db", CLASSIFAILY_KEY="x")
    assert (code, err) == (0, "")
    for platform in PLATFORMS:
        # rows, unique, billed, reused, skipped, failed
        assert numbers(out, f"{platform} 1")[:6] == ["5", "3", "3", "1", "1,", "0"]
        assert numbers(out, f"{platform} 2")[:6] == ["5", "3", "0", "4", "1,", "0"]
        with (demo.root / "build" / "demo" / f"{platform}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["id"], row["body"]) for row in rows] == TABLE
        assert [row["label"] for row in rows] == ["billing", "technical", "", "billing", "account"]
        # The account of the person who runs the demo stays out of it.
        environment = json.loads(demo.started(platform).read_text())
        assert "CLASSIFAILY_STORE_URL" not in environment
        assert environment["CLASSIFAILY_KEY"] != "x"
    assert "All agree on all 5 rows." in out
    assert "build/demo/airflow.csv build/demo/prefect.csv build/demo/dagster.csv" in out


def test_any_table_of_ones_own(demo: Demo) -> None:
    table = demo.write(demo.root / "own.csv", [("review", "stars"), ("late again", "1"), ("lovely", "5"), ("meh", "3")])
    categories = demo.root / "own.json"
    categories.write_text('["praise", "complaint", "other"]')
    code, out, err = demo.run("--input", str(table), "--text", "review", "--categories", str(categories), "--rows", "2")
    assert (code, err) == (0, "")
    assert numbers(out, "dagster 1")[:3] == ["2", "2", "2"]


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("sys.exit('no [red]space[/red] left on device')", "pass", "no [red]space[/red] left on device"),
        ("print('Loading…', flush=True)", "pass", "a line that is no event: 'Loading…'"),
        ("sys.exit(0)", "pass", "0 runs were done, 2 were asked for"),
        ("pass", "options.output += '.elsewhere'", "cannot read"),
        ("pass", "rows[0]['body'] += ' '", "row 1 is not row 1 of the input"),
        ("pass", "rows[0]['label'] = 'spam'", "row 1 has the label 'spam', which is no category"),
        ("pass", "rows[0]['route'] = ''", "row 1 has the label 'billing' and the route ''"),
        ("pass", "rows[2]['route'] = 'act'", "row 3 has the label None and the route 'act'"),
        ("paid.clear()", "pass", "6 requests were billed for 3 different texts"),
    ],
)
def test_a_platform_that_fails_is_named_with_its_complaint(demo: Demo, before: str, after: str, complaint: str) -> None:
    demo.launcher("prefect", before=before, after=after)
    code, out, err = demo.run()
    assert code == 1
    assert err.startswith("The demo failed: prefect: ")
    assert complaint in err
    assert "All agree" not in out
    assert not demo.started("dagster").exists()


def test_outputs_that_disagree_fail_the_demo(demo: Demo) -> None:
    demo.launcher("dagster", after="rows[1]['label'] = 'general'")
    code, out, err = demo.run()
    assert code == 1
    assert "the platforms disagree: row 2: prefect (run 2) says technical" in err
    assert "dagster (run 1) says general" in err
    assert numbers(out, "dagster 1")[0] == "5"


def test_a_platform_whose_environment_is_not_built(demo: Demo) -> None:
    (demo.root / ".venvs" / "airflow" / "bin" / "python").unlink()
    code, _, err = demo.run()
    assert code == 1
    assert "make envs" in err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--text", "words"), "has no column 'words': TEXT must be one of id, body"),
        (("--categories", __file__), "is no list of categories"),
        (("--input", "own.csv"), "has a column 'status', which the answer needs"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(demo: Demo, options: tuple[str, str], complaint: str) -> None:
    name, value = options
    if value == "own.csv":
        value = str(demo.write(demo.root / value, [("body", "status"), ("hello", "open")]))
    code, _, err = demo.run(name, value)
    assert code == 1
    assert complaint in err
    assert not (demo.root / "build").exists()


def test_live_without_a_key_starts_nothing(demo: Demo) -> None:
    code, _, err = demo.run("--live")
    assert code == 1
    assert "CLASSIFAILY_KEY" in err
    assert not demo.started("airflow", "demo-live").exists()


def test_live_says_first_what_it_costs_and_never_empties_its_folder(demo: Demo) -> None:
    kept = demo.root / "build" / "demo-live" / "airflow" / "ledger.db"
    kept.parent.mkdir(parents=True)
    kept.touch()
    table = demo.write(demo.root / "long.csv", [("body",), *((f"ticket {number}",) for number in range(30))])
    demo.launcher("airflow", after="rows[1]['confidence'] = '0.5'")  # models may answer differently
    with Sandbox(plan="starter") as api:
        environment = {"CLASSIFAILY_KEY": api.key, "CLASSIFAILY_BASE_URL": api.base_url}
        code, out, err = demo.run("--live", "--input", str(table), **environment)
        assert (code, err) == (0, "")
        assert api.bill().charged == 60
        assert api.key not in out
    assert "costs at most 60 requests of the starter plan's quota (10,000 left)" in out
    assert out.index("costs at most 60") < out.index("airflow is ready")
    assert numbers(out, "prefect 1")[:3] == ["20", "20", "20"]
    assert "They differ, as answers of a model may: row 2" in out
    assert kept.exists()
    # Apart from what the next demo against the sandbox empties.
    assert (kept.parents[1] / "airflow.csv").exists()
    assert not (demo.root / "build" / "demo").exists()


def test_live_beyond_the_quota_starts_nothing(demo: Demo) -> None:
    with Sandbox(plan="starter", key="cai_live_" + "1" * 40) as api:
        api.add_key(api.key, plan="starter", used=9_992)
        code, _, err = demo.run("--live", CLASSIFAILY_KEY=api.key, CLASSIFAILY_BASE_URL=api.base_url)
        assert code == 1
        assert "up to 9 requests of the starter plan's quota (8 left)" in err
        assert "ROWS=" in err
        assert api.bill().charged == 0
    assert not demo.started("airflow", "demo-live").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_stopped_demo_leaves_no_process(demo: Demo, number: signal.Signals, code: int) -> None:
    child = "child = subprocess.Popen(['sleep', '120']); print(child.pid, file=open(options.output + '.child', 'w'))"
    demo.launcher("airflow", before=f"{child}; time.sleep(120)")
    with demo.start() as process:
        file = demo.root / "build" / "demo" / "airflow.csv.child"
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        environment = json.loads(demo.started("airflow").read_text())
        own = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert environment["pid"] in own
    assert len(own) == 2  # the sandbox and the launcher
    assert not any(alive(pid) for pid in (*own, int(file.read_text())))
    with pytest.raises(OSError, match="refused"):
        urlopen(environment["CLASSIFAILY_BASE_URL"], timeout=5)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has died and awaits its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answered(label: str, confidence: str, status: str, route: str = "act") -> tuple[str, ...]:
    """The cells of the answer columns, in their order."""
    return label, confidence, "[]", "", route, status, "", "", "", "", ""


def tables() -> Any:
    spec = importlib.util.spec_from_file_location("demo_tables", EXAMPLES / "demo" / "tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (("billing", "0.9", "failed"), "failed and yet wears the label 'billing'"),
        (("billing", "0.9", "done"), "has the status 'done'"),
        (("billing", "high", "completed"), "has the confidence 'high', which is no number"),
        ((), "row 1 has 1 cells"),
    ],
)
def test_answers_that_contradict_themselves_are_refused(
    tmp_path: Path, answer: tuple[str, ...], complaint: str
) -> None:
    """An error never wears a label."""
    module = tables()
    table = module.read_table(Demo.write(tmp_path / "in.csv", [("body",), ("hello",)]), "body", None)
    lines = [("hello", *answered(*answer))] if answer else [("hello",)]
    labelled = Demo.write(tmp_path / "out.csv", [("body", *module.ADDED), *lines])
    with pytest.raises(module.DemoError, match=complaint):
        module.read_labelled(labelled, table, ("billing", "general"))


def test_the_review_queue_holds_every_row_a_human_has_to_see(tmp_path: Path) -> None:
    module = tables()
    rows = [
        ("billing", "0.95", "completed", "act"),
        ("billing", "0.60", "completed", "flag"),
        ("billing", "0.59", "completed", "review"),
        ("billing", "", "completed", "review"),
        ("", "", "completed", "review"),
        ("", "", "failed", "review"),
        ("", "", "skipped", "review"),
    ]
    bodies = [f"text {number}" for number in range(len(rows))]
    table = module.read_table(Demo.write(tmp_path / "in.csv", [("body",), *((body,) for body in bodies)]), "body", None)
    lines = [(body, *answered(*row)) for body, row in zip(bodies, rows, strict=True)]
    out = Demo.write(tmp_path / "out.csv", [("body", *module.ADDED), *lines])
    assert module.read_labelled(out, table, ("billing",)).review == 4

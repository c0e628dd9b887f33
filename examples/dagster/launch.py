"""Run the examples in a real Dagster on this machine.

    launch.py demo --input TICKETS.csv --text body --output OUT.csv --categories CATEGORIES.json --workdir DIR
    launch.py ui [--port 3000]

CLASSIFAILY_KEY must be set; CLASSIFAILY_BASE_URL may name a sandbox. `demo` labels the table with
`support_tickets.py`, in a run of its own that a webserver launches, and prints what happens as lines of JSON.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from local_dagster import LaunchError, LocalDagster

HERE = Path(__file__).resolve().parent
NOT_EXAMPLES = ("launch.py", "local_dagster.py")
STOPPING = (signal.SIGINT, signal.SIGTERM)
PROGRESS = re.compile(r"(\d+) of (\d+) rows")


def tell(event: str, **data: Any) -> None:
    print(json.dumps({"event": event, **data}), flush=True)


def demo(options: argparse.Namespace) -> None:
    workdir = Path(options.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    # A ledger of its own, in the storage of this Dagster: the second run pays nothing, the first one everything.
    os.environ.pop("CLASSIFAILY_STORE_URL", None)
    config = {
        "input": str(first_rows(Path(options.input).resolve(), options.rows, workdir)),
        "text": options.text,
        "output": str(Path(options.output).resolve()),
        "categories": str(Path(options.categories).resolve()),
    }
    tell("starting")
    dagster = LocalDagster(workdir, [HERE / "support_tickets.py"])
    try:
        with dagster:
            tell("ready", url=dagster.url)
            for number in range(1, options.runs + 1):
                label_once(dagster, number, config)
    except (LaunchError, OSError) as error:
        print(f"{dagster.last_lines(30)}\n--- run\n{error}", file=sys.stderr)
        sys.exit(1)


def first_rows(table: Path, rows: int | None, workdir: Path) -> Path:
    if rows is None:
        return table
    first = workdir / f"first_{rows}.csv"
    csv.field_size_limit(2**31 - 1)  # the default refuses a field of more than 128 KiB
    with table.open(newline="", encoding="utf-8") as file, first.open("w", newline="", encoding="utf-8") as copy:
        csv.writer(copy).writerows(itertools.islice(csv.reader(file), rows + 1))
    return first


def label_once(dagster: LocalDagster, number: int, config: dict[str, Any]) -> None:
    run_id = dagster.launch("support_tickets", "labelled_tickets", config)
    rows = 0
    for message in dagster.messages(run_id):
        if progress := PROGRESS.search(message):
            done, rows = map(int, progress.groups())
            tell("progress", run=number, done=done, rows=rows)
    tell("run_done", run=number, rows=rows, output=config["output"], run_url=f"{dagster.url}/runs/{run_id}")


def ui(options: argparse.Namespace) -> None:
    files = sorted(file for file in HERE.glob("*.py") if file.name not in NOT_EXAMPLES)
    with (
        tempfile.TemporaryDirectory(prefix="dagster-") as passing,
        LocalDagster(Path(options.workdir or passing), files, port=options.port, daemon=True) as dagster,
    ):
        print(f"Dagster with {len(files)} examples: {dagster.url} (Ctrl-C ends it)", flush=True)
        signal.pause()


def stop(number: int, _: FrameType | None) -> NoReturn:
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)  # stopping takes seconds; do not let a second Ctrl-C leave a half
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the Dagster examples in a real Dagster.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("demo", help="label a table and stop")
    for name in ("input", "text", "output", "categories", "workdir"):
        command.add_argument(f"--{name}", required=True)
    command.add_argument("--rows", type=int, help="only the first rows")
    command.add_argument("--runs", type=int, default=1, help="how often")
    command.set_defaults(run=demo)
    command = commands.add_parser("ui", help="show the examples in Dagster's UI")
    command.add_argument("--port", type=int)
    command.add_argument("--workdir", help="keep everything here; default: a directory that is removed")
    command.set_defaults(run=ui)
    options = parser.parse_args()
    if not os.environ.get("CLASSIFAILY_KEY"):
        parser.error("set CLASSIFAILY_KEY; `classifaily sandbox` prints one to try with")
    # Set, not inherited: a shell starts background jobs with SIGINT ignored, and so would every child be.
    for number in STOPPING:
        signal.signal(number, stop)
    options.run(options)


if __name__ == "__main__":
    main()

"""`make demo`: one table, labelled by Airflow, Prefect and Dagster, and one bill to compare them by.

    python examples/demo/run.py                                      the support tickets, against the local sandbox
    python examples/demo/run.py --input my.csv --text review         a table of your own
    CLASSIFAILY_KEY=… python examples/demo/run.py --live --rows 20   the real API; it says first what that may cost

Each platform is really started, runs the pipeline of its folder (examples/<platform>/support_tickets.py) twice and is
stopped again. The exit code is 0 only when all three labelled the whole table, labelled it alike, were billed once for
every different text, and for nothing the second time. Each keeps a ledger of its own, so each does real work.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launchers import launcher
from meters import Live, Meter, sandbox
from report import LEGEND, Line, Run, new_console, new_progress, summary
from tables import DemoError, Table, first_difference, read_labelled, read_labels, read_table

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"
PLATFORMS = ("airflow", "prefect", "dagster")
LIVE_ROWS = 20


@dataclass(frozen=True)
class Job:
    """What every platform is asked to do."""

    table: Table
    categories: Path
    labels: tuple[str, ...]
    runs: int
    folder: Path
    meter: Meter

    def command(self, platform: str) -> list[str]:
        """The platform's launcher, by the platform's own python."""
        launch = [f"{ROOT}/.venvs/{platform}/bin/python", f"{ROOT}/examples/{platform}/launch.py", "demo"]
        files = ["--input", str(self.table.path), "--categories", str(self.categories)]
        places = ["--output", str(self.output(platform)), "--workdir", str(self.folder / platform)]
        return [*launch, *files, "--text", self.table.text, *places, "--runs", str(self.runs)]

    def output(self, platform: str) -> Path:
        """Where the platform leaves the labelled table."""
        return self.folder / f"{platform}.csv"

    def run(self, platform: str, line: Line) -> list[Run]:
        """The platform's runs, checked: each left the whole table, and no text was paid for twice."""
        runs: list[Run] = []
        began, starting, charged = time.monotonic(), 0.0, self.meter.charged()
        self.output(platform).unlink(missing_ok=True)
        with launcher(self.command(platform), self.meter.environment, self.folder / f"{platform}.log") as events:
            for event in events:
                line.show(event)
                now = time.monotonic()
                if event.event == "ready":
                    starting, began = now - began, now
                if event.event == "run_done":
                    # At once: a platform takes a moment to start its next run, and this one's bill ends here.
                    total = self.meter.charged()
                    labelled = read_labelled(self.output(platform), self.table, self.labels)
                    unique = len(set(self.table.sendable))
                    runs.append(Run(platform, len(runs) + 1, unique, total - charged, starting, now - began, labelled))
                    starting, began, charged = 0.0, now, total
        if len(runs) != self.runs:
            raise DemoError(f"{len(runs)} runs were done, {self.runs} were asked for")
        billed, unique = sum(run.billed for run in runs), runs[0].unique
        if self.meter.exact and billed > unique:
            raise DemoError(f"{billed} requests were billed for {unique} different texts")
        return runs


def run_all(job: Job, platforms: list[str], console: Console) -> list[Run]:
    """Every platform in turn."""
    runs: list[Run] = []
    with new_progress(console) as progress:
        for platform in platforms:
            line = Line(progress, platform, len(job.table.rows))
            try:
                runs.extend(job.run(platform, line))
            except DemoError as error:
                raise DemoError(f"{platform}: {error}") from None
    return runs


def compare(runs: list[Run], meter: Meter) -> str:
    """One sentence on whether the platforms agree. The real model may change its mind; the sandbox never does."""
    difference = first_difference({f"{run.platform} (run {run.number})": run.labelled for run in runs})
    if difference and meter.exact:
        raise DemoError(f"the platforms disagree: {difference}")
    rows = len(runs[0].labelled.verdicts)
    return f"They differ, as answers of a model may: {difference}" if difference else f"All agree on all {rows} rows."


def demo(options: argparse.Namespace, console: Console) -> None:
    """The whole demo; raises DemoError when anything is off."""
    limit = options.rows or (LIVE_ROWS if options.live else None)
    table = read_table(options.input, options.text, limit)
    labels = read_labels(options.categories)
    # Answers of the real API were paid for: their folder is kept, the sandbox's is made anew.
    folder = ROOT / "build" / ("demo-live" if options.live else "demo")
    with ExitStack() as stack:
        if options.live:
            meter: Meter = (live := Live())
            price = live.price(len(set(table.sendable)) * len(options.platforms))
            console.print(f"This uses the real API and costs at most {price}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            meter = stack.enter_context(sandbox(folder / "sandbox.log"))
        folder.mkdir(parents=True, exist_ok=True)
        job = Job(table.save(folder / "tickets.csv"), options.categories, labels, options.runs, folder, meter)
        console.print(f"{len(table.rows)} rows of {options.input.name}, classified by {meter.name}.")
        runs = run_all(job, options.platforms, console)
    console.print(summary(runs), LEGEND, sep="\n")
    console.print("\nThe labelled tables:", *(str(job.output(name).relative_to(ROOT)) for name in options.platforms))
    console.print(compare(runs, meter))


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--input", type=_file, default=DATA / "support_tickets.csv", help="a CSV file with a header")
    add("--text", default="body", help="the column to classify")
    add("--categories", type=_file, default=DATA / "categories.json", help="a JSON list of names or category objects")
    add("--rows", type=_rows, help=f"only the first ROWS rows (default: all; with --live {LIVE_ROWS})")
    add("--runs", type=_count, default=2, help="how often each platform labels the table (default: 2)")
    add("--platforms", nargs="+", choices=PLATFORMS, default=list(PLATFORMS), metavar="NAME", help=", ".join(PLATFORMS))
    add("--live", action="store_true", help="use the real API with CLASSIFAILY_KEY: this spends your quota")
    return parser.parse_args(arguments)


def _file(word: str) -> Path:
    if not (path := Path(word).resolve()).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {word}")
    return path


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of 1 or more")
    return int(word)


def _rows(word: str) -> int | None:
    return _count(word) if word else None


def main() -> int:
    """Run the demo; 0 when all is well."""
    options = read_options()
    # `make` may have been started in the background, where SIGINT is ignored; and a terminated demo cleans up, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        demo(options, new_console())
    except DemoError as error:
        new_console(stderr=True).print("The demo failed:", str(error), style="red")
        return 1
    except KeyboardInterrupt:
        new_console(stderr=True).print("\nstopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A bulk run in a process of its own, so that its memory is its own: `python bulk_rows.py URL FOLDER ROWS KIND`.

KIND is "rows", or the format of a table to be written ("csv", "parquet") from a CSV file. Prints, as JSON, the peak of
its resident memory in MB and the seconds each tenth of the rows took.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from classifaily_connectors import ClassifailyClient, classify_table

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import Progress

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
CATEGORIES = ["billing", "technical"]


def peak() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


class Clock:
    """When each tenth of the rows was done."""

    def __init__(self, rows: int) -> None:
        self.rows, self.tenths, self.started = rows, list[float](), time.perf_counter()

    def tick(self, done: int) -> None:
        if done >= self.rows // 10 * (len(self.tenths) + 1):
            self.tenths.append(time.perf_counter() - self.started)
            self.started = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        self.tick(progress.done)


def bare_rows(client: ClassifailyClient, folder: Path, rows: int) -> list[float]:
    clock = Clock(rows)
    source = (f"row number {n} was charged twice" for n in range(rows))
    run = client.classify_many(source, categories=CATEGORIES, ledger=f"sqlite:///{folder}/{rows}.db")
    for row in run:
        clock.tick(row.index + 1)
    assert run.stats.statuses["completed"] == rows
    return clock.tenths


def table(client: ClassifailyClient, folder: Path, rows: int, kind: str) -> list[float]:
    source = folder / f"{rows}.csv"
    with source.open("w") as file:
        file.write("id,body\n")
        file.writelines(f"{n},row number {n} was charged twice\n" for n in range(rows))
    clock = Clock(rows)
    done = classify_table(
        client, source, text="body", categories=CATEGORIES, output=folder / f"labelled-{rows}.{kind}", progress=clock,
        ledger=f"sqlite:///{folder}/{rows}-{kind}.db",
    )  # fmt: skip
    assert done.stats.statuses["completed"] == rows
    return clock.tenths


def main(url: str, folder: Path, rows: int, kind: str) -> None:
    with ClassifailyClient(KEY, base_url=url) as client:
        tenths = bare_rows(client, folder, rows) if kind == "rows" else table(client, folder, rows, kind)
    print(json.dumps({"peak": peak(), "tenths": tenths}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

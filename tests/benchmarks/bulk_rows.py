"""A bulk run in a process of its own, so that its memory is its own: `python bulk_rows.py URL LEDGER ROWS`.

Prints, as JSON, the peak of its resident memory in MB and the seconds each tenth of the rows took.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from classifaily_connectors import ClassifailyClient

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"


def peak() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main(url: str, ledger: str, rows: int) -> None:
    tenths: list[float] = []
    started = time.perf_counter()
    with ClassifailyClient(KEY, base_url=url) as client:
        source = (f"row number {n} was charged twice" for n in range(rows))
        run = client.classify_many(source, categories=["billing", "technical"], ledger=ledger)
        for row in run:
            if (row.index + 1) % (rows // 10) == 0:
                tenths.append(time.perf_counter() - started)
                started = time.perf_counter()
    assert run.stats.statuses["completed"] == rows
    print(json.dumps({"peak": peak(), "tenths": tenths}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

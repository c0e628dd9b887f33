"""A bulk run in a process of its own, to be killed: `python worker.py '{"ledger": …}'` prints what came of it.

Rows are made from numbers, so that both sides know them without sending them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from classifaily_connectors import ClassifailyClient, RetryPolicy


def main(order: dict[str, Any]) -> None:
    options = {"settle_after": order.get("settle_after", 0.0), **order["options"]}
    rows, unique = order["rows"], order["unique"]

    def source() -> Iterator[str]:
        for n in range(rows):
            yield f"invoice number {n % unique}"

    retry = RetryPolicy(base=0.01, cap=0.05, poll_interval=0.02, max_wait=60.0)
    statuses: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    unknown: set[int] = set()
    expected = 0
    disorder: list[int] = []
    with ClassifailyClient(order["key"], base_url=order["base_url"], retry=retry) as client:
        run = client.classify_many(source(), ledger=order["ledger"], **options)
        print("started", flush=True)
        for row in run:
            if row.index != expected:
                disorder.append(row.index)
            assert (row.label is not None) == (row.status == "completed")
            expected += 1
            statuses[row.status] += 1
            sources[row.source or "none"] += 1
            if row.status == "unknown":
                unknown.add(row.index % unique)
    # Only now: after an error that ends the run, what has landed is given out with gaps, and the error is the news.
    assert not disorder, "rows come in order, each once"
    assert expected == rows
    print(json.dumps({"statuses": statuses, "sources": sources, "unknown": len(unknown)}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

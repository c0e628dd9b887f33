"""A table in a flow, called, submitted or awaited: `python stopping_flows.py HOW SOURCE OUTPUT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from prefect import flow

from prefect_classifaily import aclassify_table, classify_table

OPTIONS: dict[str, Any] = {"text": "body", "categories": ["billing", "technical"], "batch_size": 5, "concurrency": 4}


@flow
def direct(source: Path, output: Path) -> None:
    classify_table(source, output, **OPTIONS)


@flow
def submitted(source: Path, output: Path) -> None:
    classify_table.submit(source, output, **OPTIONS).result()


@flow
async def awaited(source: Path, output: Path) -> None:
    await aclassify_table(source, output, **OPTIONS)


@flow(timeout_seconds=4)
async def timed_async(source: Path, output: Path) -> None:
    await aclassify_table(source, output, **OPTIONS)


@flow(timeout_seconds=4)
def timed(source: Path, output: Path) -> None:
    classify_table(source, output, **OPTIONS)


FLOWS = {each.name: each for each in (direct, submitted, awaited, timed, timed_async)}

if __name__ == "__main__":
    how, source, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    result: Any = FLOWS[how](source, output, return_state=True)
    state = asyncio.run(result) if asyncio.iscoroutine(result) else result
    sys.exit(0 if state.is_completed() else 3)

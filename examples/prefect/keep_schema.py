"""Keep a category set in your repository, and classify with the saved schema it becomes.

`ensure_schema` creates the schema, updates it when the file has changed, and otherwise changes nothing, so it may
stand at the head of every run. The flow is async: each task has an async twin.
"""

import asyncio
import csv
import json
from itertools import islice
from pathlib import Path

from prefect import flow, unmapped

from prefect_classifaily import aclassify, aensure_schema

DATA = Path(__file__).resolve().parents[1] / "data"


@flow(name="keep-schema")
async def label_newest(count: int = 5, credentials: str | None = None) -> dict[str, str | None]:
    """The labels of the first `count` tickets, by ticket id."""
    categories = json.loads((DATA / "categories.json").read_text(encoding="utf-8"))
    schema = await aensure_schema("support-tickets", categories, credentials=credentials)

    with (DATA / "support_tickets.csv").open(encoding="utf-8", newline="") as file:
        tickets = list(islice(csv.DictReader(file), count))
    # unmapped: one schema for all tickets, not one each.
    futures = aclassify.map([each["body"] for each in tickets], schema=unmapped(schema.id), credentials=credentials)
    return {each["ticket_id"]: future.result().label for each, future in zip(tickets, futures, strict=True)}


if __name__ == "__main__":
    print(asyncio.run(label_newest()))

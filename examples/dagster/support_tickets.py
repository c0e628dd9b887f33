"""Label a table of support tickets: one asset, from a CSV file to a CSV file.

Run it: `dagster asset materialize -f support_tickets.py --select labelled_tickets`, with CLASSIFAILY_KEY set.
"""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_classifaily import ClassifailyResource

DATA = Path(__file__).resolve().parent.parent / "data"
LONGEST_TEXT = 100_000
NEW_COLUMNS = ("label", "confidence", "status", "error", "job_id")


class Tickets(dg.Config):
    """Which table to label, and where the labelled one goes."""

    input: str = str(DATA / "support_tickets.csv")
    text: str = "body"
    categories: str = str(DATA / "categories.json")
    output: str = "labelled_tickets.csv"
    rows: int | None = None


@dg.asset
def labelled_tickets(
    context: dg.AssetExecutionContext, config: Tickets, classifaily: ClassifailyResource
) -> dg.MaterializeResult[Any]:
    """Every ticket, in the order of the input, with the team that should answer it."""
    columns, tickets = read(Path(config.input), config.rows)
    categories = json.loads(Path(config.categories).read_text(encoding="utf-8"))
    usable = [ticket for ticket in tickets if ticket[config.text].strip() and len(ticket[config.text]) <= LONGEST_TEXT]
    size = classifaily.usage().limits.batch_size or 25
    done = len(tickets) - len(usable)
    try:
        for start in range(0, len(usable), size):
            chunk = usable[start : start + size]
            batch = classifaily.batch([ticket[config.text] for ticket in chunk], categories=categories)
            for ticket, answer in zip(chunk, batch.results, strict=True):
                ticket |= {"label": answer.label, "confidence": answer.confidence, "status": answer.status}
                ticket |= {"error": answer.error, "job_id": batch.id}
            done += len(chunk)
            context.log.info("%d of %d tickets done", done, len(tickets))
    finally:  # what was paid for is kept, also when a later chunk fails
        write(Path(config.output), [*columns, *NEW_COLUMNS], tickets)
    labels = Counter(ticket["label"] or ticket["status"] for ticket in tickets)
    output = dg.MetadataValue.path(config.output)
    return dg.MaterializeResult(metadata={"dagster/row_count": len(tickets), "output": output, "labels": dict(labels)})


def read(table: Path, limit: int | None) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a CSV file, and its first rows with the new columns empty and the status `skipped`."""
    csv.field_size_limit(2**31 - 1)  # the default refuses a field of more than 128 KiB
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [{**row, **dict.fromkeys(NEW_COLUMNS), "status": "skipped"} for row in reader]
    return list(reader.fieldnames or ()), rows[:limit]


def write(table: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


defs = dg.Definitions(assets=[labelled_tickets], resources={"classifaily": ClassifailyResource()})

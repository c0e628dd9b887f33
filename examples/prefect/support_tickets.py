"""Label a table of support tickets with the plan's batches, several at a time, and watch it in the Prefect UI.

    python support_tickets.py --input tickets.csv --text body --output labelled.csv --categories categories.json

The key comes from CLASSIFAILY_KEY, or from a saved block: `--credentials BLOCK_NAME`. The flow's parameters are paths
and names only, because Prefect stores the parameters of a flow and shows them in its UI.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from classifaily_connectors import BatchResult, ClassifailyError
from prefect_classifaily import classify_batch, get_usage

DATA = Path(__file__).resolve().parents[1] / "data"
MAX_CHARACTERS = 100_000
NEW_COLUMNS = ("label", "confidence", "status", "error", "job_id")


@flow(name="support-tickets", task_runner=ThreadPoolTaskRunner(max_workers=4))
def label_tickets(
    table: Path = DATA / "support_tickets.csv",
    text: str = "body",
    output: Path = Path("labelled.csv"),
    categories: Path = DATA / "categories.json",
    credentials: str | None = None,
) -> dict[str, int]:
    """Write `output`: the rows of `table`, in order, with what the API says of column `text`; count the statuses."""
    columns, rows = read(table, text)
    usable = [row for row in rows if row[text].strip() and len(row[text]) <= MAX_CHARACTERS]
    size = get_usage(credentials=credentials).limits.batch_size or 25
    taxonomy = json.loads(categories.read_text(encoding="utf-8"))

    chunks = {}
    for start in range(0, len(usable), size):
        chunk = usable[start : start + size]
        # quote: Prefect need not search hundreds of texts for the results of other tasks.
        texts = quote([row[text] for row in chunk])
        chunks[classify_batch.submit(texts, categories=taxonomy, credentials=credentials)] = chunk

    progress = create_progress_artifact(0.0, key="support-tickets", description=f"{len(usable)} tickets")
    errors: list[Exception] = []
    done = 0
    for future in as_completed([*chunks]):
        answer = future.result(raise_on_failure=False)
        if isinstance(answer, Exception):
            errors.append(answer)
        note(chunks[future], answer)
        done += len(chunks[future])
        update_progress_artifact(progress, 100 * done / len(usable))

    write(output, [*columns, *NEW_COLUMNS], rows)
    if errors:  # only now, when everything that was paid for is on disk
        raise errors[0]
    return dict(Counter(row["status"] for row in rows))


def note(chunk: list[dict[str, Any]], answer: BatchResult | Exception) -> None:
    """Write the answer for a chunk into its rows; an error never wears a label."""
    if isinstance(answer, BatchResult):
        for row, item in zip(chunk, answer.results, strict=True):
            row |= {"label": item.label, "confidence": item.confidence, "status": item.status, "error": item.error}
            row["job_id"] = answer.id
    else:
        unknown = isinstance(answer, ClassifailyError) and answer.outcome == "unknown"
        for row in chunk:
            row |= {"status": "unknown" if unknown else "failed", "error": f"{type(answer).__name__}: {answer}"}


def read(table: Path, text: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a CSV file, and its rows with the new columns empty and status `skipped`."""
    csv.field_size_limit(2**31 - 1)  # the default refuses a field over 128 KiB
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        if text not in columns:
            raise ValueError(f"{table} has no column {text!r}, only {', '.join(columns)}")
        return columns, [{**row, **dict.fromkeys(NEW_COLUMNS), "status": "skipped"} for row in reader]


def write(output: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """The rows as a CSV file; nothing is written as an empty field."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Label a table of support tickets.")
    parser.add_argument("--input", type=Path, default=DATA / "support_tickets.csv")
    parser.add_argument("--text", default="body", help="the column to classify")
    parser.add_argument("--output", type=Path, default=Path("labelled.csv"))
    parser.add_argument("--categories", type=Path, default=DATA / "categories.json")
    parser.add_argument("--credentials", help="name of a saved ClassifailyCredentials block; default: CLASSIFAILY_KEY")
    given = parser.parse_args()
    print(label_tickets(given.input, given.text, given.output, given.categories, given.credentials))

"""Label a table of support tickets, and watch it in the Prefect UI; a second run pays for nothing.

    python support_tickets.py --input tickets.csv --text body --output labelled.csv --categories categories.json

The key comes from CLASSIFAILY_KEY, or from a saved block: `--credentials BLOCK_NAME`. The flow's parameters are paths
and names only, because Prefect stores the parameters of a flow and shows them in its UI. What was paid for is
remembered in ~/.local/state/classifaily/ledger.db, or wherever CLASSIFAILY_STORE_URL or the block says.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from prefect import flow

from prefect_classifaily import classify_table

DATA = Path(__file__).resolve().parents[1] / "data"


@flow(name="support-tickets")
def label_tickets(
    table: Path = DATA / "support_tickets.csv",
    text: str = "body",
    output: Path = Path("labelled.csv"),
    categories: Path = DATA / "categories.json",
    credentials: str | None = None,
) -> dict[str, Any]:
    """Write `output`: the rows of `table`, in order, with what the API says of column `text`; returns the counts."""
    return classify_table(
        table,
        output,
        text=text,
        categories=json.loads(categories.read_text(encoding="utf-8")),
        credentials=credentials,
        report="support-tickets",
        max_error_ratio=0.05,  # of more than that, somebody should hear; the labelled table is complete all the same
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Label a table of support tickets.")
    parser.add_argument("--input", type=Path, default=DATA / "support_tickets.csv")
    parser.add_argument("--text", default="body", help="the column to classify")
    parser.add_argument("--output", type=Path, default=Path("labelled.csv"))
    parser.add_argument("--categories", type=Path, default=DATA / "categories.json")
    parser.add_argument("--credentials", help="name of a saved ClassifailyCredentials block; default: CLASSIFAILY_KEY")
    given = parser.parse_args()
    print(label_tickets(given.input, given.text, given.output, given.categories, given.credentials))

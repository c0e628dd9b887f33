"""Label a table of support tickets: one asset, from a file to a file, each distinct ticket paid once.

Run it: `dagster asset materialize -f support_tickets.py --select labelled_tickets`, with CLASSIFAILY_KEY set. A
second run pays nothing: the ledger is the user's own, with DAGSTER_HOME or without.
"""

import json
from pathlib import Path

import dagster as dg

from dagster_classifaily import ClassifailyResource, Table, classify_asset

DATA = Path(__file__).resolve().parent.parent / "data"


class Tickets(dg.Config):
    """Which table to label, and where the labelled one goes; `refresh` pays for every answer again."""

    input: str = str(DATA / "support_tickets.csv")
    text: str = "body"
    categories: str = str(DATA / "categories.json")
    output: str = "labelled_tickets.csv"
    refresh: bool = False


@classify_asset(on_invalid="skip")
def labelled_tickets(config: Tickets) -> Table:
    """Every ticket, in the order of the input, with the team that should answer it."""
    categories = json.loads(Path(config.categories).read_text(encoding="utf-8"))
    return Table(config.input, text=config.text, categories=categories, output=config.output, refresh=config.refresh)


defs = dg.Definitions(assets=[labelled_tickets], resources={"classifaily": ClassifailyResource()})

"""Classify one ticket and decide what to do with it.

The flow takes the ticket's id, not its text: Prefect stores a flow's parameters, but not those of its tasks.
"""

import csv
import json
from pathlib import Path

from prefect import flow, get_run_logger

from prefect_classifaily import classify

DATA = Path(__file__).resolve().parents[1] / "data"
SURE = 0.85


@flow(name="classify-one")
def route_ticket(ticket_id: str = "TW-20426", credentials: str | None = None) -> str:
    """The team for the ticket, or `review` when the API is not sure."""
    with (DATA / "support_tickets.csv").open(encoding="utf-8", newline="") as file:
        body = next(row["body"] for row in csv.DictReader(file) if row["ticket_id"] == ticket_id)
    teams = json.loads((DATA / "categories.json").read_text(encoding="utf-8"))

    answer = classify(body, categories=teams, credentials=credentials)

    team = answer.label if answer.label and (answer.confidence or 0) >= SURE else "review"
    get_run_logger().info("ticket %s goes to %s (%s, %s)", ticket_id, team, answer.label, answer.confidence)
    return team


if __name__ == "__main__":
    print(route_ticket())

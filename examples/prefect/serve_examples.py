"""Serve every example of this folder as a deployment, and the sweep; ready to be run from the Prefect UI.

Saves the key of the environment as the block `classifaily` first, so the flows need no key in their environment.
"""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from classify_one import route_ticket
from keep_schema import label_newest
from prefect import serve
from support_tickets import label_tickets
from suspended_video import label_video, sweep

from prefect_classifaily import ClassifailyCredentials

BLOCK = "classifaily"

if __name__ == "__main__":
    ClassifailyCredentials.from_env().save(BLOCK, overwrite=True)
    by_block = {"credentials": BLOCK}
    table = {"output": str(Path("labelled.csv").absolute())}
    with chdir(Path(__file__).resolve().parent):  # Prefect looks for a served flow below the working directory
        serve(
            route_ticket.to_deployment("example", parameters=by_block),
            label_newest.to_deployment("example", parameters=by_block),
            label_tickets.to_deployment("example", parameters=by_block | table),
            label_video.to_deployment("example", parameters=by_block),
            sweep(BLOCK),
        )

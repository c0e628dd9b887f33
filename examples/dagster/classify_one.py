"""One text, classified by an op: the smallest job there is.

Run it: `dagster job execute -f classify_one.py`, with CLASSIFAILY_KEY set.
"""

import dagster as dg

from dagster_classifaily import ClassifailyResource, build_classify_op

sort_ticket = build_classify_op("sort_ticket", categories=["billing", "technical", "account"], explain=True)


@dg.op
def newest_ticket() -> str:
    return "I was charged twice for my subscription."


@dg.job(resource_defs={"classifaily": ClassifailyResource().get_resource_definition()})
def sort_newest_ticket() -> None:
    sort_ticket(newest_ticket())


defs = dg.Definitions(jobs=[sort_newest_ticket])

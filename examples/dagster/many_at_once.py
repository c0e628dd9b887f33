"""Many texts at the same time inside one step: Dagster runs steps one after the other, an event loop does not wait.

Run it: `dagster asset materialize -f many_at_once.py --select '*'`, with CLASSIFAILY_KEY set.
"""

import asyncio

import dagster as dg

from dagster_classifaily import ClassifailyResource

TEAMS = ["billing", "technical", "account"]
REVIEWS = [
    "The invoice lists a seat we cancelled in March.",
    "Export fails with error 500 whenever a cell holds an emoji.",
    "How do I hand my workspace over to a colleague?",
]


@dg.asset
def teams_schema(classifaily: ClassifailyResource) -> str:
    """The id of the categories, saved under a name: made once, found again ever after."""
    return str(classifaily.ensure_schema("teams", TEAMS).id)


@dg.asset
async def sorted_reviews(teams_schema: str, classifaily: ClassifailyResource) -> dict[str, str | None]:
    """The team for each review."""
    answers = await asyncio.gather(*(classifaily.aclassify(review, schema=teams_schema) for review in REVIEWS))
    return {review: answer.label for review, answer in zip(REVIEWS, answers, strict=True)}


defs = dg.Definitions(assets=[teams_schema, sorted_reviews], resources={"classifaily": ClassifailyResource()})

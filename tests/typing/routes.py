"""What a type checker must refuse.

Never run: every `ignore` below stands on an error that mypy and pyright have to find, and an ignore of nothing is an
error of its own in both (`make types-core`).
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, assert_never

from classifaily_connectors.routing import check_targets

if TYPE_CHECKING:
    import classifaily_connectors as cc


class Team(Enum):
    """A category set."""

    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


class Urgency(Enum):
    """Another one."""

    high = 1


def every_label_leads_somewhere(answer: cc.Classification[Team]) -> str:
    match label := answer.label:
        case Team.billing:
            return "finance"
        case Team.technical:
            return "support"
        case None:
            return "review"
        case _:
            assert_never(label)


def a_forgotten_label(answer: cc.Classification[Team]) -> str:
    match label := answer.label:
        case Team.billing:
            return "finance"
        case None:
            return "review"
        case _:
            assert_never(label)  # type: ignore[arg-type]


def a_forgotten_review(row: cc.Row[Team]) -> str:
    match label := row.label:
        case Team.billing | Team.technical:
            return "somebody"
        case _:
            assert_never(label)  # type: ignore[arg-type]


def a_label_of_another_set(answer: cc.Classification[Team]) -> bool:
    return answer.label is Urgency.high  # type: ignore[comparison-overlap]


def a_word_for_a_member(answer: cc.Classification[Team]) -> bool:
    return answer.label == "billing"  # type: ignore[comparison-overlap]


def targets() -> None:
    check_targets(Team, {Team.billing: "finance", Team.technical: "support"})
    check_targets(["billing"], {"billing": "finance"})
    routes: dict[Team, str] = {Urgency.high: "finance"}  # type: ignore[dict-item]
    check_targets(Team, routes)


def options(client: cc.ClassifailyClient) -> None:
    client.plan(["text"], categorys=["a"])  # type: ignore[call-arg]
    client.classify_many(["text"], categories=Team, orderd=True)  # type: ignore[call-overload]
    client.classify_axes(["text"], {"team": Team}, schema=17)  # type: ignore[call-arg]

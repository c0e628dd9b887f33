"""Every public call shows its keywords with their defaults, and suggests the right one for a misspelt one."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors import arguments
from classifaily_connectors.bulk.prepare import AxesOptions, ManyOptions
from classifaily_connectors.bulk.submitting import asubmit_once, submit_once
from classifaily_connectors.operations.payloads import BatchOptions, ClassifyOptions
from classifaily_connectors.options import ClassifyTableOptions, LabellingOptions
from classifaily_connectors.tables import aclassify_table, aplan_table, classify_table, plan_table

SYNC, ASYNC = cc.ClassifailyClient, cc.AsyncClassifailyClient
SUBMITTING = {"categories", "ledger", "identity", "scope", "refresh", "on_unknown"}
TABLE = set(ClassifyTableOptions.__annotations__)
OPTIONS: list[tuple[Callable[..., Any], set[str]]] = [
    *[(kind.classify, {"categories", *ClassifyOptions.__annotations__}) for kind in (SYNC, ASYNC)],
    *[(kind.submit, {"categories", *ClassifyOptions.__annotations__}) for kind in (SYNC, ASYNC)],
    *[(kind.batch, {"categories", *BatchOptions.__annotations__}) for kind in (SYNC, ASYNC)],
    *[(kind.classify_many, {"categories", *ManyOptions.__annotations__}) for kind in (SYNC, ASYNC)],
    *[(kind.plan, {"categories", *ManyOptions.__annotations__}) for kind in (SYNC, ASYNC)],
    *[(kind.classify_axes, set(AxesOptions.__annotations__)) for kind in (SYNC, ASYNC)],
    *[(kind.plan_axes, set(AxesOptions.__annotations__)) for kind in (SYNC, ASYNC)],
    *[(table, TABLE) for table in (classify_table, aclassify_table)],
    *[(table, TABLE - {"output", "prefix", "max_error_ratio"}) for table in (plan_table, aplan_table)],
    *[(submit, {*SUBMITTING, *ClassifyOptions.__annotations__}) for submit in (submit_once, asubmit_once)],
]


def keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(("function", "options"), OPTIONS, ids=lambda each: getattr(each, "__qualname__", ""))
def test_help_shows_every_option_with_its_default(function: Callable[..., Any], options: set[str]) -> None:
    found = keywords(function)
    assert set(found) == options
    without = [name for name, each in found.items() if each.default is inspect.Parameter.empty]
    assert without == (["ledger"] if "scope" in options else [])
    kinds = {each.kind for each in inspect.signature(function).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_one_option_has_one_default() -> None:
    defaults: dict[str, set[object]] = {}
    for function, _options in OPTIONS:
        for name, each in keywords(function).items():
            defaults.setdefault(name, set()).add(each.default)
    required = inspect.Parameter.empty
    assert {name: found for name, found in defaults.items() if len(found) > 1} == {
        "type": {"text", None},  # an item of a batch may say its own
        "on_unknown": {None, "park"},  # a submitted job has no history to be settled from
        "ledger": {None, required},
    }


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("method", "given", "suggestion"),
    [
        ("classify", {"categroies": ["a"]}, r"classify\(\) takes no option 'categroies': did you mean 'categories'\?"),
        ("submit", {"treshold": 1}, "did you mean 'threshold'"),
        ("batch", {"explian": True}, "did you mean 'explain'"),
        ("classify_many", {"on_unkown": "park"}, "did you mean 'on_unknown'"),
        ("plan", {"batchsize": 3}, "did you mean 'batch_size'"),
        ("plan", {"bananas": 3}, "takes no option 'bananas': it takes rows, categories, schema, type, mode"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_right_one(
    kind: str, method: str, given: dict[str, Any], suggestion: str
) -> None:
    text = "a text that no traceback may show"
    client: Any = SYNC("cai_live_x") if kind == "sync" else ASYNC("cai_live_x")

    def call() -> None:
        found = getattr(client, method)([text] if method in ("batch", "plan", "classify_many") else text, **given)
        if inspect.isawaitable(found):
            asyncio.run(_awaited(found))

    with pytest.raises(cc.InvalidRequestError, match=suggestion) as refused:
        call()
    assert refused.value.outcome == "not_sent"
    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True).stack
    wrapper = [frame.locals for frame in frames if frame.filename == arguments.__file__]
    assert wrapper
    assert text not in repr(wrapper)


async def _awaited(found: Any) -> None:
    await found


@pytest.mark.parametrize("door", [classify_table, plan_table])
def test_a_misspelt_option_of_a_table_is_refused(door: Any) -> None:
    with SYNC("cai_live_x") as client, pytest.raises(cc.InvalidRequestError, match="did you mean 'delimiter'"):
        door(client, [{"body": "text"}], text="body", delimeter=";")


def test_options_that_travel_are_those_of_the_call() -> None:
    assert set(LabellingOptions.__annotations__) == TABLE - {"output"}

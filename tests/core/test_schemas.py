"""Schemas kept in step with the code: by content, over whichever calls the server knows, or not at all.

Against the sandbox, because what counts is the state that is left behind.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors.operations import schemas
from classifaily_connectors.operations.context import Context
from classifaily_connectors.retry import RetryPolicy
from classifaily_connectors.sandbox import Sandbox, Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Driven

    from classifaily_connectors.operations.effects import Reply

    Call = Callable[[Any], Any]
    Open = Callable[..., "Account"]

QUICK = RetryPolicy(base=0, cap=0)
PLAIN = ["billing", "technical"]
RICH = [{"name": "billing", "description": "Money.", "examples": ["Refund!"]}, "technical"]


class Account:
    """A sandbox, and a client of the given kind for it."""

    def __init__(self, kind: str, sandbox: Sandbox) -> None:
        self.kind, self.sandbox = kind, sandbox
        self.settings: dict[str, Any] = {"base_url": sandbox.base_url, "retry": QUICK, "timeout": 10}

    def __call__(self, call: Call) -> Any:
        if self.kind == "sync":
            with cc.ClassifailyClient(self.sandbox.key, **self.settings) as client:
                return call(client)

        async def run() -> Any:
            async with cc.AsyncClassifailyClient(self.sandbox.key, **self.settings) as client:
                return await call(client)

        return asyncio.run(run())

    def asked(self) -> list[str]:
        """The requests since the last look, without the schema's id."""
        seen = [f"{each.method} {'/'.join(each.path.split('/')[:2])}" for each in self.sandbox.requests]
        new, self._told = seen[getattr(self, "_told", 0) :], len(seen)
        return [each.replace("/v1", "") for each in new]


@pytest.fixture(params=["sync", "async"])
def account(request: pytest.FixtureRequest) -> Iterator[Open]:
    with ExitStack() as stack:

        def start(plan: str = "starter", **switches: Any) -> Account:
            return Account(request.param, stack.enter_context(Sandbox(plan=plan, switches=Switches(**switches))))

        yield start


def listed(account: Account) -> list[cc.Schema]:
    return list(account(lambda c: c.schemas.list()))


@pytest.mark.parametrize("echo", ["as_sent", "objects"])
@pytest.mark.parametrize("categories", [PLAIN, RICH], ids=["plain", "rich"])
def test_ensuring_twice_changes_nothing(categories: Any, echo: str, account: Open) -> None:
    """Plain names that come back as objects are the same names."""
    ours = account(schema_categories=echo)
    first = ours(lambda c: c.schemas.ensure("tickets", categories, description="d"))
    assert [each.name for each in first.categories] == PLAIN
    before = listed(ours)
    ours.asked()
    again = ours(lambda c: c.schemas.ensure("tickets", categories, description="another description"))
    assert again.id == first.id
    assert [each.split()[0] for each in ours.asked()] == ["GET"]
    assert listed(ours) == before


def test_order_is_no_change(account: Open) -> None:
    ours = account()
    first = ours(lambda c: c.schemas.ensure("tickets", RICH))
    assert ours(lambda c: c.schemas.ensure("tickets", RICH[::-1])).id == first.id
    assert len(listed(ours)) == 1


CHANGES: dict[str, dict[str, Any]] = {
    "name added": {"categories": [*PLAIN, "account"]},
    "name removed": {"categories": ["billing"]},
    "description": {"categories": ["technical", {"name": "billing", "description": "Money."}]},
    "mode": {"categories": PLAIN, "mode": "multi"},
    "type": {"categories": PLAIN, "type": "image"},
}


@pytest.mark.parametrize("verbs", ["all", "put", "patch"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_set_is_updated_under_its_id(change: str, verbs: str, account: Open) -> None:
    """PUT, and PATCH where the server has no PUT: the schema keeps its id, so nothing that names it breaks."""
    ours = account(sub_resources=verbs)
    first = ours(lambda c: c.schemas.ensure("tickets", PLAIN))
    terms = CHANGES[change]
    second = ours(lambda c: c.schemas.ensure("tickets", **terms))
    assert second.id == first.id
    after = ours(lambda c: c.schemas.get(first.id))
    assert [each.name for each in after.categories] == [
        each["name"] if isinstance(each, dict) else each for each in terms["categories"]
    ]
    assert (after.mode, after.type) == (terms.get("mode", "single"), terms.get("type", "any"))
    ours.asked()
    ours(lambda c: c.schemas.ensure("tickets", **terms))
    assert [each.split()[0] for each in ours.asked()] == ["GET"]


def test_another_name_is_another_schema(account: Open) -> None:
    ours = account()
    ids = {ours(lambda c, name=name: c.schemas.ensure(name, PLAIN)).id for name in ("tickets", "Tickets", "mails")}
    assert len(ids) == 3


def test_of_several_namesakes_the_equal_one_is_meant(account: Open) -> None:
    ours = account()
    first = ours(lambda c: c.schemas.create("tickets", PLAIN))
    second = ours(lambda c: c.schemas.create("tickets", RICH))
    assert ours(lambda c: c.schemas.ensure("tickets", PLAIN)).id == first.id
    assert ours(lambda c: c.schemas.ensure("tickets", RICH)).id == second.id
    with pytest.raises(cc.InvalidRequestError, match=f"{first.id}, {second.id}|{second.id}, {first.id}"):
        ours(lambda c: c.schemas.ensure("tickets", ["other"]))
    assert len(listed(ours)) == 2


CALLS: dict[str, Call] = {
    "listed": lambda c: c.schemas.list(),
    "read": lambda c: c.schemas.get(17),
    "changed": lambda c: c.schemas.update(17, name="n", categories=PLAIN),
    "deleted": lambda c: c.schemas.delete(17),
    "listed by ensure": lambda c: c.schemas.ensure("n", PLAIN),
}


@pytest.mark.parametrize("done", CALLS)
def test_a_server_that_only_creates_sends_us_to_the_dashboard(done: str, account: Open) -> None:
    """Only POST /schemas is documented; nothing is created by guessing."""
    ours = account(sub_resources="none")
    with pytest.raises(cc.MethodNotAllowedError, match=f"{done.partition(' ')[0]} over the API: .*dashboard") as caught:
        ours(CALLS[done])
    assert caught.value.status == 405
    assert not [each for each in ours.asked() if each.startswith("POST")]
    created = ours(lambda c: c.schemas.create("n", PLAIN))
    assert ours(lambda c: c.classify("My invoice is wrong.", schema=created)).label in PLAIN


def test_read_change_delete(account: Open) -> None:
    ours = account()
    made = ours(lambda c: c.schemas.create("tickets", PLAIN))
    changed = ours(lambda c: c.schemas.update(made.id, description="d"))
    assert (changed.id, changed.name) == (made.id, "tickets")
    assert [each.name for each in ours(lambda c: c.schemas.get(str(made.id))).categories] == PLAIN
    assert ours(lambda c: c.schemas.delete(made.id)) is None
    assert listed(ours) == []
    for call in (
        lambda c: c.schemas.get(made.id),
        lambda c: c.schemas.delete(made.id),
        lambda c: c.schemas.update(made.id, name="x"),
    ):
        with pytest.raises(cc.SchemaNotFoundError):
            ours(call)


def test_a_plan_without_schemas_says_so(account: Open) -> None:
    with pytest.raises(cc.PlanRestrictionError):
        account("free")(lambda c: c.schemas.create("tickets", PLAIN))


@pytest.mark.parametrize("envelope", ["named", "bare", "data"])
def test_lists_come_in_any_envelope(envelope: str, account: Open) -> None:
    ours = account("pro", list_envelope=envelope)
    names = [f"set {number}" for number in range(5)]
    for name in names:
        ours(lambda c, name=name: c.schemas.create(name, PLAIN))
    assert sorted(schema.name for schema in listed(ours)) == names
    assert ours(lambda c: c.schemas.ensure("set 3", PLAIN)).name == "set 3"
    assert len(listed(ours)) == 5


# --- what the sandbox does not do ---------------------------------------------------------------------------------


def wire(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"n{number}", "categories": PLAIN}


def test_lists_go_over_pages(drive: Callable[..., Driven], reply: Callable[..., Reply]) -> None:
    def answer(send: Any) -> Reply:
        start = int((send.params or {}).get("offset", 0))
        return reply(200, {"schemas": [wire(each) for each in range(start, min(start + 20, 45))], "total": 45})

    driven = drive(schemas.list_schemas(Context(QUICK)), answer)
    assert [schema.id for schema in driven.value] == list(range(45))
    assert len(driven.sends) == 3


@pytest.mark.parametrize("more", [{"total": 45}, {}])
def test_a_list_that_repeats_itself_ends(
    more: dict[str, int], drive: Callable[..., Driven], reply: Callable[..., Reply]
) -> None:
    page = {"schemas": [wire(each) for each in range(20)], **more}
    driven = drive(schemas.list_schemas(Context(QUICK)), lambda _send: reply(200, page))
    assert [schema.id for schema in driven.value] == list(range(20))
    assert len(driven.sends) == (2 if more else 1)


def test_addresses_by_query_are_tried_too(drive: Callable[..., Driven], reply: Callable[..., Reply]) -> None:
    def answer(send: Any) -> Reply:
        return reply(200, wire(17)) if send.params else reply(404, b"<html>no such page</html>")

    for operation, verb in (
        (schemas.get_schema(Context(QUICK), 17), "GET"),
        (schemas.delete_schema(Context(QUICK), 17), "DELETE"),
        (schemas.update_schema(Context(QUICK), 17, mode="multi"), "PATCH"),
    ):
        driven = drive(operation, answer)
        assert driven.error is None
        assert [(send.method, send.path, send.params) for send in driven.sends] == [
            (verb, "/schemas/17", None),
            (verb, "/schemas", {"id": "17"}),
        ]


def test_a_read_that_lists_all_is_searched(drive: Callable[..., Driven], reply: Callable[..., Reply]) -> None:
    driven = drive(
        schemas.get_schema(Context(QUICK), "17"),
        [reply(405, {"error": "no"}), reply(200, {"schemas": [wire(16), wire(17)]})],
    )
    assert driven.value.id == 17


def test_a_partial_change_is_never_a_put(drive: Callable[..., Driven], reply: Callable[..., Reply]) -> None:
    """PUT replaces: sent with half of the fields it would empty the rest."""
    driven = drive(
        schemas.update_schema(Context(QUICK), 17, categories=PLAIN), lambda _send: reply(405, {"error": "no"})
    )
    assert {send.method for send in driven.sends} == {"PATCH"}
    assert type(driven.error) is cc.MethodNotAllowedError


def test_terse_answers_are_completed_by_what_was_sent(
    drive: Callable[..., Driven], reply: Callable[..., Reply]
) -> None:
    created = drive(schemas.create_schema(Context(QUICK), "n", RICH), [reply(201, {"id": 17})])
    assert (created.value.id, created.value.name) == (17, "n")
    assert created.value.categories[0].examples == ("Refund!",)
    changed = drive(schemas.update_schema(Context(QUICK), 17, name="n", mode="multi"), [reply(204)])
    assert (changed.value.id, changed.value.name, changed.value.mode) == (17, "n", "multi")
    lost = drive(schemas.create_schema(Context(QUICK), "n", RICH), [reply(201)])
    assert type(lost.error) is cc.OutcomeUnknownError


def test_a_lost_creation_is_not_sent_again(drive: Callable[..., Driven], reply: Callable[..., Reply]) -> None:
    driven = drive(schemas.create_schema(Context(QUICK), "n", RICH), [reply(502, b"<html>")])
    assert type(driven.error) is cc.OutcomeUnknownError
    assert len(driven.sends) == 1

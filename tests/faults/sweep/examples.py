"""One example of every public call: what it is called on, what it needs, and whether it costs money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import classifaily_connectors as cc
from classifaily_connectors import sandbox, store, webhooks
from classifaily_connectors.store.entry import Changes
from classifaily_connectors.taxonomy import parse_categories
from tests.faults.sweep.stage import KEY, SECRET, TEXT, Stage

NETWORK, STORE, TABLES = "network", "store", "tables"
CATEGORIES = ["billing", "other"]
DIGEST = b"k" * 32
ENTRY = store.Entry(DIGEST, "parked", "run", 1.0)
ARRIVAL = store.Arrival("default", "job.completed", "job", b"digest", 1.0, None, b"{}" * 4000)
EVENT = b'{"event":"job.completed","id":"84","result":{"label":"billing","confidence":0.9}}'
ROWS = [f"{TEXT} {number}" for number in range(60)]
AXES = {"topic": CATEGORIES, "mood": ["good", "bad"]}


@dataclass(frozen=True)
class Example:
    """`call(subject, stage)` makes the call; `subject` names what the stage makes before anything breaks."""

    call: Callable[[Any, Stage], Any]
    needs: frozenset[str] = field(default_factory=frozenset)
    subject: str = ""
    pays: bool = False
    survives: bool = False
    """Whether it may end well though what it needs is broken: what closes, and what only tells."""


def _on(subject: str, needs: Iterable[str], calls: dict[str, Callable[[Any, Stage], Any]]) -> dict[str, Example]:
    return {name: Example(call, frozenset(needs), subject) for name, call in calls.items()}


def _deadline() -> float:
    return time.time() + 0.1


def _bulk(stage: Stage) -> dict[str, Any]:
    return {"categories": CATEGORIES, "ledger": stage.ledger_option, "batch_size": 10, "concurrency": 2}


def _table(stage: Stage) -> dict[str, Any]:
    return {"text": "body", "output": stage.output, "max_error_ratio": 0.0, **_bulk(stage)}


def _planned(stage: Stage) -> dict[str, Any]:
    return {"text": "body", **_bulk(stage)}


def _without_categories(stage: Stage) -> dict[str, Any]:
    options = _bulk(stage)
    del options["categories"]
    return options


_READS: dict[str, Callable[[Any, Stage], Any]] = {
    "usage": lambda client, _: client.usage(),
    "jobs.get": lambda client, stage: client.jobs.get(stage.job_id),
    "jobs.list": lambda client, _: client.jobs.list(),
    "jobs.iterate": lambda client, _: client.jobs.iterate(),
    "jobs.history": lambda client, _: client.jobs.history(60.0),
    "jobs.wait": lambda client, stage: client.jobs.wait(stage.job_id, timeout=0.2),
    "schemas.get": lambda client, stage: client.schemas.get(stage.schema_id),
    "schemas.list": lambda client, _: client.schemas.list(),
    "schemas.create": lambda client, _: client.schemas.create("Support", CATEGORIES),
    "schemas.update": lambda client, stage: client.schemas.update(stage.schema_id, description="Changed"),
    "schemas.delete": lambda client, stage: client.schemas.delete(stage.a_schema()),
    "schemas.ensure": lambda client, _: client.schemas.ensure("Support", CATEGORIES),
    "webhooks.create": lambda client, _: client.webhooks.create("https://example.com/hook", secret=SECRET),
    "webhooks.list": lambda client, _: client.webhooks.list(),
    "webhooks.delete": lambda client, stage: client.webhooks.delete(stage.a_webhook()),
}
_PAYS: dict[str, Callable[[Any, Stage], Any]] = {
    "classify": lambda client, _: client.classify(TEXT, categories=CATEGORIES),
    "submit": lambda client, _: client.submit(TEXT, categories=CATEGORIES),
    "batch": lambda client, _: client.batch([TEXT, "two"], categories=CATEGORIES),
}
_BULK: dict[str, Callable[[Any, Stage], Any]] = {
    "classify_many": lambda client, stage: client.classify_many(ROWS, **_bulk(stage)),
    "classify_axes": lambda client, stage: client.classify_axes(ROWS, AXES, **_without_categories(stage)),
}
_PLANS: dict[str, Callable[[Any, Stage], Any]] = {
    "plan": lambda client, stage: client.plan(ROWS, **_bulk(stage)),
    "plan_axes": lambda client, stage: client.plan_axes(ROWS, AXES, **_without_categories(stage)),
}
_RUN: dict[str, Callable[[Any, Stage], Any]] = {
    "plan": lambda client, stage: client.classify_many(ROWS, **_bulk(stage)).plan(),
    "stats": lambda client, stage: client.classify_many(ROWS, **_bulk(stage)).stats,
    "leftover": lambda client, stage: client.classify_many(ROWS, **_bulk(stage)).leftover,
    "stop": lambda client, stage: client.classify_many(ROWS, **_bulk(stage)).stop(),
}


def _client(kind: str, subject: str) -> dict[str, Example]:
    network, both = frozenset({NETWORK}), frozenset({NETWORK, STORE})
    found = {
        **{name: Example(call, network, subject) for name, call in _READS.items()},
        **{name: Example(call, network, subject, pays=True) for name, call in _PAYS.items()},
        **{name: Example(call, both, subject, pays=True) for name, call in _BULK.items()},
        **{name: Example(call, both, subject) for name, call in _PLANS.items()},
        "base_url": Example(lambda client, _: client.base_url, subject=subject),
        "settings": Example(lambda client, _: client.settings, subject=subject),
        "close": Example(lambda client, _: client.close(), subject=subject),
    }
    kinds = cc.ClassifailyClient, cc.AsyncClassifailyClient
    make = next(each for each in kinds if each.__name__ == kind)
    return {f"{kind}()": Example(lambda _, __: make(KEY)), **{f"{kind}.{name}": each for name, each in found.items()}}


def _run(prefix: str, subject: str) -> dict[str, Example]:
    bulk, axes = (f"{prefix}{name}" for name in ("BulkRun", "AxesRun"))
    through = "__aiter__" if prefix else "__iter__"
    leave = "aclose" if prefix else "close"
    many, over_axes = _BULK["classify_many"], _BULK["classify_axes"]
    both = frozenset({NETWORK, STORE})
    found: dict[str, Example] = {}
    for kind, call in ((bulk, many), (axes, over_axes)):
        for name in ("()", f".{through}"):
            found[kind + name] = Example(call, both, subject, pays=True)
        found[f"{kind}.plan"] = Example(_RUN["plan"], both, subject)
        for name in ("stats", "leftover", "stop"):
            found[f"{kind}.{name}"] = Example(_RUN[name], subject=subject)
    found[f"{bulk}.closed"] = Example(lambda client, stage: many(client, stage).closed, subject=subject)
    found[f"{axes}.by_axis"] = Example(lambda client, stage: over_axes(client, stage).by_axis, subject=subject)
    if not prefix:
        found[f"{bulk}.close"] = Example(lambda client, stage: many(client, stage).close(), subject=subject)
        found[f"{axes}.close"] = Example(lambda client, stage: over_axes(client, stage).close(), subject=subject)
    else:
        found[f"{bulk}.{leave}"] = Example(lambda client, stage: many(client, stage).aclose(), subject=subject)
        found[f"{axes}.{leave}"] = Example(lambda client, stage: over_axes(client, stage).aclose(), subject=subject)
    return found


LEDGER_CALLS: dict[str, Callable[[Any, Stage], Any]] = {
    "lookup": lambda book, _: book.lookup([DIGEST]),
    "live_runs": lambda book, _: book.live_runs({"run"}),
    "start_run": lambda book, _: book.start_run(),
    "beat": lambda book, _: book.beat("run"),
    "end_run": lambda book, _: book.end_run("run"),
    "claim": lambda book, _: book.claim("run", [bytes([number]) * 32 for number in range(200)]),
    "commit": lambda book, _: book.commit("run", Changes(keys={DIGEST: None})),
    "finish": lambda book, _: book.finish("run", {DIGEST: "answer" * 1000}),
    "take_over": lambda book, _: book.take_over("run", [ENTRY]),
    "spend": lambda book, _: book.spend("name", 1),
    "counts": lambda book, _: book.counts("run", ["name"]),
    "attach": lambda book, _: book.attach("run", [DIGEST], "job"),
    "park": lambda book, _: book.park([DIGEST]),
    "release": lambda book, _: book.release("run", [DIGEST]),
    "forget": lambda book, _: book.forget([ENTRY]),
    "stats": lambda book, _: book.stats(),
    "unsettled": lambda book, _: book.unsettled(),
    "prune": lambda book, _: book.prune(1.0),
    "identity": lambda book, _: book.identity,
    "now": lambda book, _: book.now(),
}
INBOX_CALLS: dict[str, Callable[[Any, Stage], Any]] = {
    "put": lambda box, _: box.put([ARRIVAL]),
    "find": lambda box, _: box.find("default", ["job"]),
    "get": lambda box, _: box.get(1),
    "after": lambda box, _: box.after(0),
    "entries": lambda box, _: box.entries(),
    "head": lambda box, _: box.head(),
    "end": lambda box, _: box.end(),
    "mark": lambda box, _: box.mark("sink"),
    "set_mark": lambda box, _: box.set_mark("sink", 1),
    "expect": lambda box, _: box.expect("default", ["job"]),
    "settle": lambda box, _: box.settle("default", ["job"], by="webhook"),
    "expected": lambda box, _: box.expected(),
    "redrive": lambda box, _: box.redrive(1),
    "bury": lambda box, _: box.bury(1),
    "resolve": lambda box, _: box.resolve(1),
    "prune": lambda box, _: box.prune(1.0),
    "stats": lambda box, _: box.stats(),
    "lags": lambda box, _: box.lags(),
    "identity": lambda box, _: box.identity,
}
_FEED: dict[str, Callable[[Any, Stage], Any]] = {
    "find": lambda feed, _: feed.find("default", ["job"]),
    "after": lambda feed, _: feed.after(0),
    "head": lambda feed, _: feed.head(),
    "end": lambda feed, _: feed.end(),
}
_ONLY_TELLS: dict[str, Callable[[Any, Stage], Any]] = {
    "place": lambda book, _: book.place,
    "close": lambda book, _: book.close(),
}


async def _lane(box: store.Inbox) -> None:
    """One batch through the lane, as the receiver sends it."""
    batches, told = [[], [ARRIVAL]], asyncio.get_running_loop().create_future()
    lane = box.lane()
    try:
        lane.begin(batches.pop, lambda _number, outcome, _more: told.done() or told.set_result(outcome))
        outcome = await told
    finally:
        lane.close()
    if isinstance(outcome, Exception):
        raise outcome


async def _delivered(receiver: webhooks.Receiver) -> tuple[int, str]:
    """Status and body of the receiver's answer to a delivery that is signed as it should be."""
    signature = webhooks.sign(EVENT, SECRET).encode()
    headers = [(b"x-classifaily-signature", signature)]
    scope = {"type": "http", "method": "POST", "path": "/classifaily/webhooks", "headers": headers}
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": EVENT, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await receiver(scope, receive, send)
    return said[0]["status"], b"".join(each.get("body", b"") for each in said[1:]).decode()


def _opened(opener: Callable[[], Any]) -> None:
    with opener():
        pass


_BY_ITSELF: dict[str, Example] = {
    "Ledger()": Example(lambda _, stage: _opened(lambda: store.Ledger(stage.store)), frozenset({STORE})),
    "Inbox()": Example(lambda _, stage: _opened(lambda: store.Inbox(stage.store)), frozenset({STORE})),
    "Ledger.rescue": Example(lambda book, _: book.rescue("run", {}), subject="ledger"),
    "Ledger.take_in": Example(lambda book, _: book.take_in(), subject="ledger"),
    "Inbox.lane": Example(lambda box, _: asyncio.run(_lane(box)), frozenset({STORE}), "inbox"),
    "Feed.close": Example(lambda feed, _: feed.close(), subject="feed"),
    "open_feed": Example(lambda _, stage: webhooks.open_feed(stage.store).close(), frozenset({STORE})),
    "Receiver()": Example(lambda _, stage: webhooks.Receiver(stage.store, SECRET)),
    "Receiver.open": Example(lambda receiver, _: receiver.open().close(), frozenset({STORE}), "receiver"),
    "Receiver.close": Example(lambda receiver, _: receiver.close(), subject="receiver"),
    "Receiver.stop": Example(lambda receiver, _: receiver.stop(), subject="receiver"),
    "Receiver.__call__": Example(
        lambda receiver, _: asyncio.run(_delivered(receiver)), frozenset({STORE}), "receiver", survives=True
    ),
    "verify": Example(lambda _, __: webhooks.verify(EVENT, {"X-ClassifAIly-Signature": _signature()}, SECRET)),
    "sign": Example(lambda _, __: _signature()),
    "parse_event": Example(lambda _, __: webhooks.parse_event(EVENT)),
    "parse_categories": Example(lambda _, __: parse_categories(CATEGORIES)),
}


def _signature() -> str:
    return webhooks.sign(EVENT, SECRET)


def _waiting(kind: str, subject: str) -> dict[str, Example]:
    """What waits for jobs, with a store and, as its name says, without one."""
    prefix = "a" if kind else ""
    check = getattr(webhooks, f"{prefix}check_job")
    wait = webhooks.await_for_job if kind else webhooks.wait_for_job
    both = frozenset({NETWORK, STORE})
    return {
        check.__name__: Example(lambda client, stage: check(client, stage.job_id, store=stage.store), both, subject),
        wait.__name__: Example(
            lambda client, stage: wait(client, stage.pending_id, store=stage.store, deadline=_deadline(), poll=0.05),
            both,
            subject,
        ),
    }


def _tables(prefix: str, subject: str) -> dict[str, Example]:
    label, plan = (getattr(cc, f"{prefix}{name}") for name in ("classify_table", "plan_table"))
    submit = getattr(cc, f"{prefix}submit_once")
    everything, both = frozenset({NETWORK, STORE, TABLES}), frozenset({NETWORK, STORE})
    return {
        label.__name__: Example(
            lambda client, stage: label(client, stage.source, **_table(stage)), everything, subject, pays=True
        ),
        plan.__name__: Example(
            lambda client, stage: plan(client, stage.source, **_planned(stage)), everything, subject
        ),
        submit.__name__: Example(
            lambda client, stage: submit(client, TEXT, categories=CATEGORIES, ledger=stage.ledger_option),
            both,
            subject,
            pays=True,
        ),
    }


def _of_sandbox() -> dict[str, Example]:
    calls: dict[str, Callable[[Any, Stage], Any]] = {
        "add_key": lambda box, _: box.add_key("cai_live_another"),
        "revoke": lambda box, _: box.revoke("cai_live_another"),
        "lapse": lambda box, _: box.lapse("cai_live_another"),
        "reset_bill": lambda box, _: (box.add_key("cai_live_third"), box.reset_bill()),
    }
    tells: dict[str, Callable[[Any, Stage], Any]] = {
        "bill": lambda box, _: box.bill(),
        "requests": lambda box, _: box.requests,
        "deliveries": lambda box, _: box.deliveries,
        "inject": lambda box, _: box.inject(sandbox.Fault(kind="delay", path="/nowhere", seconds=0.1)),
        "clear_faults": lambda box, _: box.clear_faults(),
        "script": lambda box, _: box.script("no such text", "billing"),
        "base_url": lambda box, _: box.base_url,
        "root_url": lambda box, _: box.root_url,
        "close": lambda box, _: box.close(),
    }
    clock: dict[str, Callable[[Any, Stage], Any]] = {
        "SandboxClock()": lambda _, __: sandbox.SandboxClock(),
        "SandboxClock.now": lambda _, __: sandbox.SandboxClock().now(),
        "Clock.now": lambda _, __: sandbox.SandboxClock().now(),
        "SandboxClock.advance": lambda _, __: sandbox.SandboxClock().advance(days=1),
        "SandboxClock.set": lambda _, __: sandbox.SandboxClock().set(sandbox.SandboxClock().now()),
    }
    return {
        **{f"Sandbox.{name}": Example(call, frozenset({STORE}), "sandbox") for name, call in calls.items()},
        **{f"Sandbox.{name}": Example(call, subject="sandbox") for name, call in tells.items()},
        **{name: Example(call) for name, call in clock.items()},
        "Sandbox()": Example(lambda _, stage: sandbox.Sandbox(store=stage.file).close(), frozenset({STORE})),
        "Sandbox.start": Example(lambda _, stage: _taken(stage), survives=True),
        "create_app": Example(lambda _, stage: sandbox.create_app(store=stage.file), frozenset({STORE})),
    }


def _taken(stage: Stage) -> None:
    """Two sandboxes at one port: the second says so."""
    with sandbox.Sandbox() as first:
        port = int(first.root_url.rpartition(":")[2])
        second = sandbox.Sandbox(port=port)
        try:
            second.start()
        except cc.ConfigurationError:
            return
        finally:
            second.close()
    raise AssertionError("two sandboxes listen at one port")


EXAMPLES: dict[str, Example] = {
    **_client("ClassifailyClient", "client"),
    **_client("AsyncClassifailyClient", "async client"),
    **_run("", "client"),
    **_run("Async", "async client"),
    **{f"Ledger.{name}": each for name, each in _on("ledger", {STORE}, LEDGER_CALLS).items()},
    **{f"Ledger.{name}": each for name, each in _on("ledger", (), _ONLY_TELLS).items()},
    **{f"Inbox.{name}": each for name, each in _on("inbox", {STORE}, INBOX_CALLS).items()},
    **{f"Inbox.{name}": each for name, each in _on("inbox", (), _ONLY_TELLS).items()},
    **{f"Feed.{name}": each for name, each in _on("feed", {NETWORK}, _FEED).items()},
    **_BY_ITSELF,
    **_waiting("", "client"),
    **_waiting("a", "async client"),
    **_tables("", "client"),
    **_tables("a", "async client"),
    **_of_sandbox(),
}
"""By the name that `public_calls` gives the call."""

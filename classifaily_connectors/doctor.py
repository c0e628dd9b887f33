"""Is everything in order? Key, address, plan, quota, ledger, clock; and the way of the webhooks.

The law of this file: it spends nothing and changes nothing (but for a ping in the inbox), every finding names its
fix, and none shows a key or a secret.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from classifaily_connectors.bulk.plan_limits import CATEGORIES, all_restrictions
from classifaily_connectors.errors import ClassifailyError, ConfigurationError, StoreError
from classifaily_connectors.operations import account
from classifaily_connectors.operations.context import Context
from classifaily_connectors.operations.effects import Reply
from classifaily_connectors.settings import KEY_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic import SecretStr

    from classifaily_connectors.models import Usage
    from classifaily_connectors.operations.effects import Answer, Operation
    from classifaily_connectors.store import Inbox, InboxStats, LedgerStats
    from classifaily_connectors.webhooks.health import Health

Level = Literal["good", "warning", "bad"]
_SKEW = 30.0
"""Seconds the clocks may differ before it matters to the ages of webhooks and of open questions."""
_TIGHT = 0.05
_LAG = 100
"""Deliveries that a consumer may have before it: it reads in pages of that."""
_UNAUTHORIZED = 401
_ENDED_WELL = range(200, 300)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: how it is, and what to do when it is not good."""

    name: str
    level: Level
    detail: str


def examine(base_url: str | None, ledger: Callable[[], str] | None) -> Iterator[Finding]:
    """Everything, in the order in which it has to be right; `ledger` gives the store's URL, or says what is wrong."""
    try:
        settings = Settings.resolve(None, base_url)
    except ConfigurationError as error:
        name = "address" if "base_url" in error.message else "key"
        yield Finding(name, "bad", error.message)
    else:
        yield _key(settings)
        yield Finding("address", "good", settings.base_url)
        yield from _service(settings)
    if ledger is not None:
        yield from _ledger(ledger)


def _key(settings: Settings) -> Finding:
    if settings.api_key.get_secret_value().startswith(KEY_PREFIX):
        return Finding("key", "good", f"from {settings.key_source}")
    detail = f"that of {settings.key_source} does not start with {KEY_PREFIX}: is it a ClassifAIly key?"
    return Finding("key", "warning", detail)


def _service(settings: Settings) -> Iterator[Finding]:
    from classifaily_connectors.transport import SyncTransport

    transport = SyncTransport(settings, max_connections=1, application="cli")
    try:
        started = time.time()
        usage, server = transport.run(_usage_and_clock(Context()))
        now = (started + time.time()) / 2
    except ClassifailyError as error:
        yield Finding("service", "bad", str(error))
        return
    finally:
        transport.close()
    yield Finding("service", "good", f"answered in {(now - started) * 2:.2f} s; plan {usage.plan or 'unknown'}")
    yield from _plan(usage)
    yield _quota(usage)
    if server is None:
        yield Finding("clock", "warning", "the server tells no time to compare with")
        return
    skew = now - server
    level: Level = "good" if abs(skew) <= _SKEW else "warning"
    fix = "" if level == "good" else ": set this machine's clock (NTP)"
    yield Finding("clock", level, f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server{fix}")


def _plan(usage: Usage) -> Iterator[Finding]:
    lacking = all_restrictions(usage.plan)
    if lacking:
        # Whoever is on a paid plan knows what it is for; a free key can ask nothing of its own.
        level: Level = "warning" if CATEGORIES in lacking[0] else "good"
        yield Finding("plan", level, "; ".join(lacking))


def _quota(usage: Usage) -> Finding:
    left, limit, resets_at = usage.remaining, usage.limits.requests, usage.limits.resets_at
    if left is None:
        return Finding("quota", "good", "unlimited")
    when = f"; starts anew at {resets_at:%Y-%m-%d %H:%M} UTC" if resets_at else ""
    detail = f"{left:,} requests left{f' of {limit:,}' if limit else ''}{when}"
    if left == 0:
        return Finding("quota", "bad", f"{detail}: wait, or upgrade the plan")
    return Finding("quota", "warning" if limit and left < limit * _TIGHT else "good", detail)


def _usage_and_clock(context: Context) -> Operation[tuple[Usage, float | None]]:
    """The usage, and the server's time in seconds since the epoch."""
    operation = account.usage(context)
    answer: Answer | None = None
    server: float | None = None
    while True:
        try:
            step = operation.send(answer)
        except StopIteration as done:
            return done.value, server
        answer = yield step
        if isinstance(answer, Reply):
            server = _date(answer)


def _date(reply: Reply) -> float | None:
    try:
        return parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _ledger(given: Callable[[], str]) -> Iterator[Finding]:
    try:
        from classifaily_connectors.store import SUBMITTED, Ledger
        from classifaily_connectors.store.address import SQLITE, shown
        from classifaily_connectors.store.address import store_url as read_url
        from classifaily_connectors.store.database import file_system
    except ImportError as error:
        yield Finding("ledger", "bad", str(error))
        return
    from pathlib import Path

    try:
        url = read_url(given())
        counts: list[LedgerStats] = []
        for namespace in ("", SUBMITTED):
            with contextlib.closing(Ledger(url, namespace=namespace)) as ledger:
                counts.append(ledger.stats())
    except (ClassifailyError, OSError) as error:
        yield Finding("ledger", "bad", str(error))
        return
    place = shown(url)
    if url.startswith(SQLITE):
        kind = file_system(Path(url.removeprefix(SQLITE)).absolute().parent)
        place += f" on {kind}" if kind else ""
    yield Finding("ledger", "good", f"{place}; {sum(each.done for each in counts):,} answers")
    for each, option in zip(counts, ("", " --submitted"), strict=True):
        if each.parked or each.interrupted:
            detail = f"{each.parked + each.interrupted:,} perhaps paid without an answer"
            yield Finding("open questions", "warning", f"{detail}: classifaily ledger settle{option}")


# --- webhooks -----------------------------------------------------------------------------------


def examine_webhooks(
    base_url: str | None,
    store_url: str,
    *,
    url: str | None = None,
    source: str = "default",
    secrets_file: str | os.PathLike[str] | None = None,
) -> Iterator[Finding]:
    """The way of a webhook, from its registration to the store, and what the store remembers.

    `url` is the receiver's public address; without it, every registered one gets its ping.
    """
    from classifaily_connectors.store import Inbox
    from classifaily_connectors.store.source import checked_source
    from classifaily_connectors.webhooks.secrets import Secrets

    source = checked_source(source)
    registered, findings = _endpoints(base_url)
    yield from findings
    try:
        inbox = Inbox(store_url)
    except ClassifailyError as error:
        yield Finding("store", "bad", str(error))
        return
    try:
        secrets = Secrets(file=secrets_file).of(source)
        if not secrets:
            yield Finding("secret", "bad", f"source {source!r} has none: set CLASSIFAILY_WEBHOOK_SECRET")
        for address in [url] if url else registered:
            if secrets:
                yield _ping(address, secrets[0], inbox, source)
            yield from _receiver(address)
        yield from _inbox(inbox.stats())
    except StoreError as error:
        yield Finding("store", "bad", str(error))
    except ClassifailyError as error:
        yield Finding("secret", "bad", str(error))
    finally:
        inbox.close()


def _endpoints(base_url: str | None) -> tuple[list[str], list[Finding]]:
    """The addresses that are registered, and what is to be said of them."""
    from classifaily_connectors.client import ClassifailyClient

    try:
        with ClassifailyClient(base_url=base_url, application="cli") as client:
            endpoints = client.webhooks.list()
    except ClassifailyError as error:
        return [], [Finding("endpoints", "warning", f"{error}: what is registered is unknown")]
    if not endpoints:
        nothing = "none is registered: `client.webhooks.create(url)`, or the dashboard"
        return [], [Finding("endpoints", "warning", nothing)]
    told = [Finding("endpoint", "good", f"{each.url} for {', '.join(each.events)}") for each in endpoints]
    return list(dict.fromkeys(each.url for each in endpoints)), told


def _ping(url: str, secret: SecretStr, inbox: Inbox, source: str) -> Finding:
    from classifaily_connectors.webhooks.pinging import ping

    try:
        pong = ping(url, secret)
    except ConfigurationError as error:
        return Finding("ping", "bad", error.message)
    if pong.status is None:
        return Finding("ping", "bad", f"{url} does not answer ({pong.reason}): is the receiver up, and reachable?")
    if pong.status == _UNAUTHORIZED:
        return Finding("ping", "bad", f"{url} refuses our signature (401): it has another secret than this command")
    if pong.status not in _ENDED_WELL:
        return Finding("ping", "bad", f"{url} answers {pong.status} {pong.reason}")
    if not inbox.entries(source=source, job_id=pong.id):
        return Finding("ping", "bad", f"{url} took the ping, but into another store or source than this one")
    return Finding("ping", "good", f"through {url} into the store in {pong.elapsed:.2f} s")


def _receiver(url: str) -> Iterator[Finding]:
    """What the receiver at this address says of itself."""
    from classifaily_connectors.webhooks.health import Health, ago, ask_health

    try:
        health = ask_health(url)
    except ConfigurationError:
        return  # the ping has said so
    if not isinstance(health, Health):
        detail = f"its health page cannot be read ({health}), so nobody knows what it refused: let GET …/-/health pass"
        yield Finding("receiver", "warning", detail)
        return
    last = "none yet" if health.last_commit is None else ago(health.last_commit)
    well = health.status == "ok"
    yield Finding("receiver", "good" if well else "bad", f"{health.status}; last commit: {last}")
    if health.secrets != "ok":
        yield Finding("secrets of the receiver", "bad", f"{health.secrets}: those read before stay in force")
    if health.refusals:
        yield Finding("refusals", "warning", _refusals(health))
    for reader, lag in health.readers.items():
        yield Finding(f"reader {reader}", "good" if lag <= _LAG else "warning", f"{lag:,} deliveries before it")


def _refusals(health: Health) -> str:
    from classifaily_connectors.webhooks.health import ago

    counts = ", ".join(f"{count:,} {reason}" for reason, count in health.refused.items())
    last = health.last_refusal
    detail = f": {last['detail']}" if last.get("detail") else ""
    when = f"; last {ago(float(last['at']))}, {last.get('reason')}{detail}" if last.get("at") else ""
    fix = ""
    if health.unsigned.get("other"):
        fix = ". Has each registered endpoint the secret that the receiver knows? classifaily webhooks rotate-secret"
    return f"{counts} since it was started{when}{fix}"


def _inbox(stats: InboxStats) -> Iterator[Finding]:
    kept = stats.ok + stats.conflict + stats.refuted
    yield Finding("deliveries", "good", f"{kept:,} kept, {stats.repeats:,} repeats, {stats.expected:,} jobs awaited")
    if stats.conflict:
        detail = f"{stats.conflict:,} contradict each other: classifaily webhooks reconcile"
        yield Finding("conflicts", "warning", detail)
    if stats.dead:
        detail = f"{stats.dead:,} were signed but unreadable: classifaily webhooks reread"
        yield Finding("dead letters", "warning", detail)
    settled = stats.settled_by_webhook + stats.settled_by_poll
    if settled:
        level: Level = "warning" if stats.settled_by_poll else "good"
        detail = f"{stats.settled_by_poll:,} of {settled:,} jobs were settled by asking, not by webhook"
        yield Finding("lost webhooks", level, detail)

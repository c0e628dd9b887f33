"""The public types, pinned.

Never run: mypy and pyright read it (`make types-core`), and a change of a public type is an error here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, assert_type

import classifaily_connectors as cc
from classifaily_connectors import webhooks
from classifaily_connectors.enums import label_of
from classifaily_connectors.errors import Outcome
from classifaily_connectors.operations.jobs import Page
from classifaily_connectors.taxonomy import CategoryLike, fingerprint, parse_categories


class Team(Enum):
    """A category set; see `taxonomies` and `taxonomies_async`."""

    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


def sync_calls(client: cc.ClassifailyClient) -> None:
    assert_type(client.classify("text"), cc.Classification)
    assert_type(client.classify(Path("cat.png"), type="image", categories=["cat", {"name": "dog"}]), cc.Classification)
    assert_type(client.classify(b"...", type="image", categories=(cc.Category(name="cat"),)), cc.Classification)
    assert_type(client.submit("text", schema=17, explain=True), cc.Job)
    assert_type(client.batch(["text", {"id": 7, "input": "text"}], schema="17"), cc.BatchResult)
    assert_type(client.usage("2026-11"), cc.Usage)

    schema = client.schemas.create("tickets", ["billing", "other"])
    assert_type(schema, cc.Schema)
    assert_type(client.classify("text", schema=schema), cc.Classification)
    assert_type(client.schemas.get(17), cc.Schema)
    assert_type(client.schemas.list(), Sequence[cc.Schema])
    assert_type(client.schemas.update(17, name="tickets"), cc.Schema)
    assert_type(client.schemas.ensure("tickets", ["billing", "other"]), cc.Schema)
    client.schemas.delete(17)

    assert_type(client.jobs.get("84"), cc.Job)
    assert_type(client.jobs.list(limit=20), Page[cc.Job])
    assert_type(client.jobs.list().total, int | None)
    assert_type(client.jobs.iterate(status="failed"), Iterator[cc.Job])
    assert_type(client.jobs.wait(84, timeout=1.5), cc.Job)

    assert_type(client.webhooks.create("https://example.org/hook", events=["job.completed"]), cc.WebhookEndpoint)
    assert_type(client.webhooks.list(), Sequence[cc.WebhookEndpoint])
    client.webhooks.delete(3)

    with cc.ClassifailyClient("key", base_url=None, timeout=10, retry=cc.RetryPolicy(attempts=1)) as entered:
        assert_type(entered, cc.ClassifailyClient)


async def async_calls(client: cc.AsyncClassifailyClient) -> None:
    assert_type(await client.classify("text", mode="top_n", top_n=2, threshold=0.5), cc.Classification)
    assert_type(await client.submit("text"), cc.Job)
    assert_type(await client.batch(["text"]), cc.BatchResult)
    assert_type(await client.usage(), cc.Usage)
    assert_type(await client.schemas.ensure("tickets", ["billing", "other"]), cc.Schema)
    assert_type(await client.schemas.list(), Sequence[cc.Schema])
    assert_type(await client.jobs.get(84), cc.Job)
    assert_type(await client.jobs.list(), Page[cc.Job])
    assert_type(client.jobs.iterate(), AsyncIterator[cc.Job])
    assert_type(await client.jobs.wait("84"), cc.Job)
    assert_type(await client.webhooks.create("https://example.org/hook"), cc.WebhookEndpoint)
    assert_type(await client.webhooks.list(), Sequence[cc.WebhookEndpoint])
    async with cc.AsyncClassifailyClient() as entered:
        assert_type(entered, cc.AsyncClassifailyClient)


def taxonomies(client: cc.ClassifailyClient, given: Sequence[CategoryLike], job: cc.Job) -> None:
    answer = client.classify("text", categories=Team, mode="multi", explain=True)
    assert_type(answer, cc.Classification[Team])
    assert_type(answer.label, Team | None)
    assert_type(answer.labels, tuple[cc.Label, ...])
    assert_type(label_of(Team, job), Team | None)
    assert_type(client.classify("text"), cc.Classification[str])
    assert_type(client.classify("text", categories=given), cc.Classification[str])
    assert_type(client.classify("text", categories=[Team.billing, "other"]), cc.Classification[str])
    batch = client.batch(["text"], categories=Team, schema=17)
    assert_type(batch, cc.BatchResult[Team])
    assert_type(batch.results[0].label, Team | None)
    run = client.classify_many(["text"], categories=Team, ledger=False)
    assert_type(run, cc.BulkRun[Team])
    assert_type([row.label for row in run], list[Team | None])
    plain = client.classify_many(["text"], categories=given, schema=None, template="{a}", ordered=False)
    assert_type(plain, cc.BulkRun[str])
    assert_type([row.label for row in plain], list[str | None])
    assert_type(client.plan(["text"], categories=Team, refresh="failed"), cc.Plan)


async def taxonomies_async(client: cc.AsyncClassifailyClient) -> None:
    assert_type((await client.classify("text", categories=Team)).label, Team | None)
    assert_type((await client.batch(["text"], categories=Team)).results[0].label, Team | None)
    run = client.classify_many(["text"], categories=Team)
    assert_type(run, cc.AsyncBulkRun[Team])
    assert_type([row.label async for row in run], list[Team | None])
    assert_type(client.classify_many(["text"], categories=["a"]), cc.AsyncBulkRun[str])
    assert_type(await client.plan(["text"], categories=["a"]), cc.Plan)


def axes(client: cc.ClassifailyClient) -> None:
    run = client.classify_axes(["text"], {"topic": ["a", "b"], "team": Team}, budget=cc.Budget(max_requests=9))
    assert_type(run, cc.AxesRun)
    assert_type(list(run), list[cc.AxesRow])
    assert_type(next(iter(run))["team"], cc.Row[Any])
    assert_type(client.plan_axes(["text"], {"team": Team}, text="body"), cc.Plan)


def answers(answer: cc.Classification, job: cc.Job, batch: cc.BatchResult, usage: cc.Usage) -> None:
    assert_type(answer.id, str | None)
    assert_type(answer.status, str)
    assert_type(answer.type, str | None)
    assert_type(answer.label, str | None)
    assert_type(answer.confidence, float | None)
    assert_type(answer.explanation, str | None)
    assert_type(answer.labels, tuple[cc.Label, ...])
    assert_type(answer.margin, float | None)
    assert_type(answer.failed, bool)
    assert_type(answer.error, cc.ErrorDetail | None)
    assert_type(answer.meta, dict[str, Any])
    assert_type(answer.created_at, datetime | None)
    assert_type(job.done, bool)
    assert_type(job.categories, tuple[cc.Category, ...])
    assert_type(job.schema_id, int | str | None)
    assert_type(batch.results, tuple[cc.Classification, ...])
    assert_type(job.results, tuple[cc.Classification, ...])
    assert_type(usage.remaining, int | None)
    assert_type(usage.limits.batch_size, int | None)


def deliveries(event: cc.WebhookEvent) -> None:
    assert_type(event.id, str)
    assert_type(event.event, str)
    assert_type(event.schema, int | str | None)
    assert_type(event.job, cc.Job)


def failures(
    refused: cc.APIError, unknown: cc.OutcomeUnknownError, late: cc.JobTimeoutError, budget: cc.BudgetExceededError
) -> None:
    assert_type(refused.outcome, Outcome | None)
    assert_type(refused.status, int | None)
    assert_type(refused.code, str | None)
    assert_type(refused.resets_at, datetime | None)
    assert_type(refused.retry_after, float | None)
    assert_type(unknown.status, int | None)
    assert_type(late.job_id, str)
    assert_type(budget.needed, int | None)


def category_sets() -> None:
    assert_type(parse_categories(["a", {"name": "b"}, cc.Category(name="c")]), tuple[cc.Category, ...])
    assert_type(fingerprint(parse_categories(["a"]), mode="single"), str)


async def waiting(client: cc.ClassifailyClient, aclient: cc.AsyncClassifailyClient) -> None:
    store = "sqlite:///deliveries.db"
    assert_type(webhooks.wait_for_job(client, "84", store=store, deadline=1.8e9), webhooks.Settled)
    assert_type(await webhooks.await_for_job(aclient, 84, store="https://example.org/hooks"), webhooks.Settled)
    assert_type(webhooks.check_job(client, "84"), webhooks.Settled | None)
    assert_type(await webhooks.acheck_job(aclient, "84", source="staging"), webhooks.Settled | None)
    assert_type(webhooks.wait_for_job(client, "84").result(), cc.Job)
    feed: webhooks.Feed = webhooks.open_feed(store)
    assert_type([each.job_id for each in feed.after(feed.head())], list[str])

"""One input, submitted once: a retry, a resumed run or a second worker gets the job that is already there.

The law of this file: the intent to pay is in the ledger before the request leaves, and the job's id as soon as it is
known. What may have been paid without leaving an id is never sent again unless the caller says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from classifaily_connectors.arguments import checked_keywords
from classifaily_connectors.bulk.decisions import Choices, OnUnknown, decide
from classifaily_connectors.bulk.desk import patiently
from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.bulk.terms import Terms
from classifaily_connectors.concurrency import check_loop
from classifaily_connectors.errors import ClassifailyError, OutcomeUnknownError, StoreError
from classifaily_connectors.identity import Reference, Resolver, unsigned
from classifaily_connectors.models import Job
from classifaily_connectors.operations import payloads
from classifaily_connectors.operations.payloads import ClassifyOptions
from classifaily_connectors.places import scheme_of
from classifaily_connectors.retry import transient
from classifaily_connectors.taxonomy import parse_categories

if TYPE_CHECKING:
    from collections.abc import Iterable

    from classifaily_connectors.async_client import AsyncClassifailyClient
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.media import Input
    from classifaily_connectors.models import Schema
    from classifaily_connectors.store import Entry, Ledger
    from classifaily_connectors.taxonomy import CategoryLike

logger = logging.getLogger("classifaily_connectors")
_LOOK_AGAIN = 0.2
_LEASE = 180.0
"""Seconds a submitter may be silent: more than the longest answer takes."""


@checked_keywords
def submit_once(
    client: ClassifailyClient,
    input: Input,
    *,
    ledger: Ledger | str | os.PathLike[str],
    categories: Iterable[CategoryLike] | None = None,
    identity: str | None = None,
    scope: str | None = None,
    refresh: bool = False,
    on_unknown: Literal["park", "resend"] = "park",
    schema: int | str | Schema | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
) -> Job:
    """The job of this input: submitted now, or found in the ledger; costs one request the first time.

    `ledger` is a store URL, in which jobs are kept apart from the rows of `classify_many` and `classify_table`, as a
    row's job may be its batch's, and here the job is the result. With a `Ledger(url)` of your own they know of each
    other, and what was bought as a row is handed out with its answer. Audio and video need an `identity` (unless they
    lie in an object store), because a URL does not tell what lies behind it; or a `scope` (such as a run's id) within
    which it does: there, a URL is submitted once, however often it is signed anew. `refresh` pays anew on purpose. The
    job may have ended already (`job.done`); else wait for its id. The rest is as in `ClassifailyClient.submit`.

    Raises OutcomeUnknownError when an earlier request may have been paid and left no job id: settle it
    (`classifaily ledger settle --submitted`), or choose `on_unknown="resend"`; and what `submit` raises.
    """
    options = ClassifyOptions(schema=schema, type=type, mode=mode, top_n=top_n, threshold=threshold, explain=explain)
    purchase = Purchase(ledger, resend=on_unknown == "resend", refresh=refresh)
    try:
        value = _resolved(input, _Named(identity, scope), options)
        saved = None if schema is None else client.schemas.get(_id(schema))
        job = purchase.begin(_terms(client.base_url, categories, saved, options), value)
        if job is None:
            try:
                job = client.submit(value, categories=categories, **options)
            except ClassifailyError as error:
                purchase.failed(error)
                raise
            purchase.submitted(job)
        return job
    finally:
        purchase.close()


@checked_keywords
async def asubmit_once(
    client: AsyncClassifailyClient,
    input: Input,
    *,
    ledger: Ledger | str | os.PathLike[str],
    categories: Iterable[CategoryLike] | None = None,
    identity: str | None = None,
    scope: str | None = None,
    refresh: bool = False,
    on_unknown: Literal["park", "resend"] = "park",
    schema: int | str | Schema | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
) -> Job:
    """`submit_once` for the asynchronous client: the ledger is read and written beside the event loop."""
    check_loop("asubmit_once")
    options = ClassifyOptions(schema=schema, type=type, mode=mode, top_n=top_n, threshold=threshold, explain=explain)
    purchase = await asyncio.to_thread(Purchase, ledger, resend=on_unknown == "resend", refresh=refresh)
    try:
        value = await asyncio.to_thread(_resolved, input, _Named(identity, scope), options)
        saved = None if schema is None else await client.schemas.get(_id(schema))
        terms = _terms(client.base_url, categories, saved, options)
        job = await asyncio.to_thread(purchase.begin, terms, value)
        if job is None:
            try:
                job = await client.submit(value, categories=categories, **options)
            except ClassifailyError as error:
                await asyncio.to_thread(purchase.failed, error)
                raise
            await asyncio.to_thread(purchase.submitted, job)
        return job
    finally:
        await asyncio.to_thread(purchase.close)


class Purchase:
    """One input's way through the ledger: `begin`, then `submitted` or `failed`, then `close`."""

    def __init__(self, ledger: Ledger | str | os.PathLike[str], *, resend: bool, refresh: bool) -> None:
        from classifaily_connectors.store import SUBMITTED, Ledger

        self._owned = not isinstance(ledger, Ledger)
        self._ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger, namespace=SUBMITTED, lease=_LEASE)
        on_unknown: OnUnknown = "resend" if resend else "park"
        self._choices = Choices(refresh, on_unknown, keeps_jobs=True)
        self._run_id = self._ledger.start_run()
        self._key = b""

    def begin(self, terms: Terms, value: Input) -> Job | None:
        """The job that is there already, or None once the input is ours to pay for; waits for whoever is at it."""
        terms.namespace, terms.durable = self._ledger.namespace, True
        self._key = terms.unit(0, {"input": value}).key
        while True:
            entry = self._entry()
            # Its owner is at work, or has left and may have kept the job just before.
            is_live = entry is not None and _waiting(entry) and (self._is_live(entry) or self._entry() != entry)
            decision = decide(entry, self._choices, is_live=is_live)
            if decision == "wait":
                time.sleep(_LOOK_AGAIN)
            elif entry is None:
                if self._ledger.claim(self._run_id, [self._key]):
                    return None
            elif decision != "buy":
                return _job_of(entry)
            elif self._ledger.take_over(self._run_id, [entry]):
                return None

    def _entry(self) -> Entry | None:
        return self._ledger.lookup([self._key]).get(self._key)

    def _is_live(self, entry: Entry) -> bool:
        return bool(self._ledger.live_runs([entry.run_id]))

    def submitted(self, job: Job) -> None:
        """Keep the job's id, or its answer if it has ended already.

        Raises OutcomeUnknownError when the server named no job.
        """
        try:
            patiently(self._keep, job)
        except StoreError as error:
            told = (
                f"{error.message}. Job {job.id} was submitted and is paid: wait for it by its id, as the ledger has not"
            )
            raise StoreError(told, passing=error.passing, unwritten=1) from None
        if not job.done and job.id is None:
            raise OutcomeUnknownError("the server accepted the request but named no job: it may have been billed")

    def _keep(self, job: Job) -> None:
        if job.done:
            self._ledger.finish(self._run_id, {self._key: Verdict.of(job, job.id).dump()})
        elif job.id is not None:
            self._ledger.attach(self._run_id, [self._key], job.id)
        else:
            self._ledger.park([self._key])

    def failed(self, error: ClassifailyError) -> None:
        """Give the claim back if the request certainly was not executed."""
        released = error.outcome in ("not_sent", "rejected") or transient(error, once=True)
        try:
            if released:
                patiently(self._ledger.release, self._run_id, [self._key])
            else:
                patiently(self._ledger.park, [self._key])
        except StoreError as trouble:  # the claim becomes an open question by itself; the caller needs the first error
            logger.warning("%s", trouble.message)

    def close(self) -> None:
        """Say that this submitter is gone: a claim without a job is an open question from now on."""
        try:
            self._ledger.end_run(self._run_id)
        except StoreError as error:  # its lease ends by itself, and the job is what counts
            logger.warning("%s", error.message)
        if self._owned:
            self._ledger.close()


def _waiting(entry: Entry) -> bool:
    return entry.state == "open" and entry.job_id is None


def _lost(entry: Entry) -> bool:
    return entry.state != "done" and entry.job_id is None


def _job_of(entry: Entry) -> Job:
    if _lost(entry) and entry.answer is None:
        raise OutcomeUnknownError("an earlier request for this input may have been paid, and left no job id")
    if entry.answer is None:
        return Job.model_validate({"id": entry.job_id, "status": "pending"})
    verdict = Verdict.load(entry.answer)
    told: dict[str, Any] = {"id": verdict.job_id, "status": "failed" if verdict.failed else "completed"}
    error = {"message": verdict.error} if verdict.failed else None
    return Job.model_validate({**told, "labels": [each.model_dump() for each in verdict.labels], "error": error})


class _Named(NamedTuple):
    """What the caller tells an input by, where its address does not: by itself, or by its address in some scope."""

    identity: str | None
    scope: str | None


def _resolved(input: Input, named: _Named, options: ClassifyOptions) -> Input:
    kind = options.get("type", "text")
    value = Resolver(stores=True)(input, kind)
    if not isinstance(value, str):
        return value
    if named.identity is not None:
        return Reference(str(value), named.identity)
    told = isinstance(value, Reference)
    if named.scope is not None and not told and kind != "text" and scheme_of(value) in ("http", "https"):
        # Never its position: a list may have grown when it is gone through again.
        return Reference(str(value), f"{named.scope}|{unsigned(value)}")
    return value


def _terms(
    base_url: str, categories: Iterable[CategoryLike] | None, saved: Schema | None, options: ClassifyOptions
) -> Terms:
    parsed = None if categories is None or saved is not None else parse_categories(categories)
    shared = payloads.Shared(
        categories=parsed,
        schema=options.get("schema"),
        mode=options.get("mode"),
        threshold=options.get("threshold"),
        explain=options.get("explain", False),
    )
    terms = Terms(
        shared=payloads.shared(shared, top_n=options.get("top_n")),
        type=options.get("type", "text"),
        categories=parsed,
        base_url=base_url,
    )
    if saved is not None:
        terms.take_over(saved)
    return terms


def _id(schema: Any) -> int | str:
    return cast("int | str", getattr(schema, "id", schema))

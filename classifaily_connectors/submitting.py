"""A job submitted once, however often the program that submits it is started again.

The law of this file: the intent is committed before the request, the job's id after it. Whoever comes again with the
same input and the same question gets the job that is there; where a submitter died between the two, nobody knows
whether it paid, and nobody pays again unasked.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Literal, Unpack

from classifaily_connectors.bulk.terms import Terms
from classifaily_connectors.errors import ClassifailyError, NotFoundError, OutcomeUnknownError
from classifaily_connectors.media import Reference
from classifaily_connectors.operations.payloads import Shared, schema_id, shared
from classifaily_connectors.retry import transient
from classifaily_connectors.taxonomy import parse_categories

if TYPE_CHECKING:
    from collections.abc import Generator

    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.media import Input
    from classifaily_connectors.models import Job
    from classifaily_connectors.options import ClassifyOptions
    from classifaily_connectors.store import Entry, Ledger

NAMESPACE = "submitted"
"""Kept apart from classified rows: what is remembered here is a job's id, not an answer."""
_LEASE = 120.0
"""Seconds a submitter on another machine may be silent before it counts as dead; longer than a submission takes."""
_LOOK_AGAIN = 0.2


def submit_once(
    client: ClassifailyClient,
    input: Input,
    *,
    ledger: str,
    identity: str | None = None,
    on_unknown: Literal["park", "resend"] = "park",
    refresh: bool = False,
    **options: Unpack[ClassifyOptions],
) -> Job:
    """Queue an input, unless its job is there already; costs one request, once.

    `ledger` is a store URL. `identity` tells media apart where their URL does not (a hash, an etag, or the name of
    the piece of work if each is to be paid for). A job that failed, or that the API has forgotten, is submitted anew,
    and so is everything with `refresh=True`. The other options are those of `ClassifailyClient.submit`.

    Raises what `submit` raises; OutcomeUnknownError also when an earlier submitter died before it had an answer:
    its request may have been paid, and `on_unknown="resend"` is the way to pay again.
    """
    from classifaily_connectors.store import Ledger

    with contextlib.closing(Ledger(ledger, namespace=NAMESPACE, lease=_LEASE)) as book:
        key = _key(client, input, identity, options)
        with _run(book) as run_id:
            job = _claim(client, book, run_id, key, on_unknown=on_unknown, refresh=refresh)
            if job is not None:
                return job
            try:
                job = client.submit(input, **options)
            except ClassifailyError as error:
                if error.outcome in ("not_sent", "rejected") or transient(error, once=True):
                    book.release(run_id, [key])
                else:
                    book.park([key])
                raise
            book.finish(run_id, {key: job.id or ""})
            return job


@contextlib.contextmanager
def _run(book: Ledger) -> Generator[str]:
    run_id = book.start_run()
    try:
        yield run_id
    finally:
        book.end_run(run_id)


def _key(client: ClassifailyClient, input: Input, identity: str | None, options: ClassifyOptions) -> bytes:
    schema, given = options.get("schema"), options.get("categories")
    categories = None if given is None or schema is not None else parse_categories(given)
    fields = Shared(
        categories=categories, schema=schema, mode=options.get("mode"), threshold=options.get("threshold"),
        explain=options.get("explain", False),
    )  # fmt: skip
    terms = Terms(
        shared=shared(fields, top_n=options.get("top_n")),
        type=options.get("type", "text"),
        categories=categories,
        namespace=NAMESPACE,
        base_url=client.base_url,
        durable=True,
    )
    if schema is not None:  # its content is the question, not its number
        terms.take_over(client.schemas.get(schema_id(schema)))
    named = Reference(str(input), identity) if identity is not None else input
    return terms.unit(0, named).key


def _claim(
    client: ClassifailyClient, book: Ledger, run_id: str, key: bytes, *, on_unknown: str, refresh: bool
) -> Job | None:
    """The job that is there; None once the key is ours to pay for."""
    while True:
        entry = book.lookup([key]).get(key)
        if entry is None:
            if book.claim(run_id, [key]):
                return None
        elif entry.state == "open" and book.live_runs([entry.run_id]):
            time.sleep(_LOOK_AGAIN)  # somebody is submitting it at this moment
        else:
            job = None if refresh else _job(client, entry, resend=on_unknown == "resend")
            if job is not None:
                return job
            if book.take_over(run_id, [entry]):
                return None


def _job(client: ClassifailyClient, entry: Entry, *, resend: bool) -> Job | None:
    """The entry's job; None when it is to be submitted anew."""
    if entry.answer:
        with contextlib.suppress(NotFoundError):
            job = client.jobs.get(entry.answer)
            return None if job.failed else job
        return None
    if resend:
        return None
    raise OutcomeUnknownError(
        "an earlier request for this input may have been paid, and its answer was lost: look for its job in the "
        "history (jobs.list), or submit it again with on_unknown='resend'"
    )

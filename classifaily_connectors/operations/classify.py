"""Classify, submit and batch: the calls that cost money (API reference, Classify and Batch).

The law of this file: each of them is sent at most once unless it surely did not run; an answer that only says
"accepted" is followed to its end; every item that was sent comes back, with a verdict or as failed, never as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from classifaily_connectors.enums import typed
from classifaily_connectors.errors import OutcomeUnknownError
from classifaily_connectors.fields import as_map
from classifaily_connectors.models import BatchResult, Classification, ErrorDetail, Job
from classifaily_connectors.operations import jobs, payloads
from classifaily_connectors.operations.call import call
from classifaily_connectors.operations.effects import Send

if TYPE_CHECKING:
    from classifaily_connectors.media import Input
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.operations.payloads import Item, Options, Shared

ANSWER_TIMEOUT = 60.0
BATCH_TIMEOUT, BATCH_TIMEOUT_PER_ITEM = 30.0, 0.5
"""Seconds. Generous on purpose: a timeout does not stop the server from billing, it only loses the answer."""

RESULT_MISSING = "result_missing"
"""The code of an item that was sent and, as far as the answer tells, never judged."""


def classify(context: Context, input: Input, **options: Unpack[Options]) -> Operation[Classification]:
    """The verdict for one input, awaited when the server queues it.

    Raises JobFailedError, JobTimeoutError, OutcomeUnknownError and the API's errors.
    """
    answer = yield from send_one(context, payloads.classification(input, **options))
    if isinstance(answer, Job):
        answer = jobs.settled(answer) if answer.failed else (yield from follow(context, answer))
    return typed(answer, options["categories"])


def submit(context: Context, input: Input, **options: Unpack[Options]) -> Operation[Job]:
    """The job the server made of the input; usually still pending."""
    body = {**payloads.classification(input, **options), "async": True}
    return (yield from call(context, _post("/classify", body, ANSWER_TIMEOUT), _read_job))


def batch(
    context: Context, items: Iterable[Item], *, type: str | None, **shared: Unpack[Shared]
) -> Operation[BatchResult]:
    """The verdicts of one batch call, one for every item, in the order of the items."""
    ids, body = payloads.batch(items, type=type, **shared)
    answer = yield from send_batch(context, body)
    if isinstance(answer, Job):
        job = yield from follow(context, answer)
        answer = BatchResult(
            id=job.id, status=job.status, results=job.results, meta=job.meta, created_at=job.created_at
        )
    results = (typed(result, shared["categories"]) for result in join(ids, answer.results))
    return answer.model_copy(update={"results": tuple(results)})


def send_one(context: Context, body: Mapping[str, Any]) -> Operation[Classification | Job]:
    """What POST /classify answers at once: the verdict, or the job that will have it."""
    return (yield from call(context, _post("/classify", body, ANSWER_TIMEOUT), _read_answer))


def send_batch(context: Context, body: Mapping[str, Any]) -> Operation[BatchResult | Job]:
    """What POST /batch answers at once: the results as they came, or the job that will have them."""
    patience = BATCH_TIMEOUT + BATCH_TIMEOUT_PER_ITEM * len(body["items"])
    return (yield from call(context, _post("/batch", body, patience), _read_batch))


def follow(context: Context, accepted: Job) -> Operation[Job]:
    """The job that was just accepted, once it has completed."""
    if accepted.id is None:
        raise OutcomeUnknownError("the server accepted the request but named no job: it may have been billed")
    return (yield from jobs.wait_for_job(context, accepted.id, newborn=True))


def join(ids: Sequence[str], results: Sequence[Classification]) -> tuple[Classification, ...]:
    """One result for every id, in the order of `ids`; an id nobody answered for gets a failed one.

    Results are joined by the ids the server echoes. Only when it echoes none at all (documented as optional) and the
    counts agree does the order decide; an answer for an id we did not send is never guessed to be another's.
    """
    if len(results) == len(ids) and all(result.id is None for result in results):
        return tuple(result.model_copy(update={"id": item_id}) for item_id, result in zip(ids, results, strict=True))
    answered: dict[str | None, Classification] = {}
    for result in results:
        answered.setdefault(result.id, result)
    return tuple(_or_missing(answered.get(item_id), item_id) for item_id in ids)


def _or_missing(result: Classification | None, item_id: str) -> Classification:
    if result is not None:
        return result
    detail = ErrorDetail(message="the answer holds no result for this item", code=RESULT_MISSING)
    return Classification(id=item_id, status="failed", error=detail)


def _post(path: str, body: Mapping[str, Any], timeout: float) -> Send:
    return Send("POST", path, body=payloads.encode(body), timeout=timeout, once=True)


def _read_answer(wire: object) -> Classification | Job:
    """A verdict, recognised by its `result`; else the job that will have one."""
    fields = as_map(wire)
    if {"result", "labels"} & fields.keys() and fields.get("status") in (None, "completed"):
        return Classification.model_validate(fields)
    return _read_job(fields)


def _read_job(wire: object) -> Job:
    fields = as_map(wire)
    if not {"id", "job_id", "result"} & fields.keys():
        raise ValueError("not a job")
    return Job.model_validate(fields)


def _read_batch(wire: object) -> BatchResult | Job:
    fields = as_map(wire)
    if "results" in fields and fields.get("status") not in ("pending", "processing"):
        return BatchResult.model_validate(fields)
    return _read_job(fields)

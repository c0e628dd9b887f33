"""Settling open questions without the rows.

The ledger holds digests, so nothing can be sent again from here, and a single call's job, of which the API keeps only
a preview of the input, cannot be told from another's. What can be done: a job whose id was recorded is looked up, and
an item of a batch carries our key as its id, so the history knows it. The law of this file: an answer is taken only
when it is certainly the one, and an entry is dropped as never executed only when the history has nothing it could be.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.errors import NotFoundError

if TYPE_CHECKING:
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.models import Classification, Job
    from classifaily_connectors.store import Entry, Ledger

_SKEW = 120.0
_SETTLED_AFTER = 60.0
"""Seconds after which a request that left no trace did not run."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How many entries were `answered` by the API's history, `dropped` as never executed, and are still `left`."""

    answered: int
    dropped: int
    left: int


def reconcile(client: ClassifailyClient, ledger: Ledger) -> Settled:
    """Ask the API's history about every unsettled entry; free.

    Raises what reading the history raises.
    """
    entries = ledger.unsettled()
    answers = _by_job(client, [entry for entry in entries if entry.job_id is not None])
    rest = [entry for entry in entries if entry.key not in answers and entry.job_id is None]
    dropped: list[bytes] = []
    if rest:
        by_item, ambiguous = _history(client, min(entry.claimed_at for entry in rest) - _SKEW)
        answers |= {entry.key: by_item[entry.key.hex()] for entry in rest if entry.key.hex() in by_item}
        if not ambiguous:
            until = time.time() - _SETTLED_AFTER
            dropped = [entry.key for entry in rest if entry.key not in answers and entry.claimed_at < until]
    run_id = ledger.start_run()
    try:
        ledger.finish(run_id, {key: verdict.dump() for key, verdict in answers.items()})
        ledger.forget(dropped)
    finally:
        ledger.end_run(run_id)
    return Settled(len(answers), len(dropped), len(entries) - len(answers) - len(dropped))


def _by_job(client: ClassifailyClient, entries: Iterable[Entry]) -> dict[bytes, Verdict]:
    members: dict[str, list[Entry]] = {}
    for entry in entries:
        members.setdefault(str(entry.job_id), []).append(entry)
    answers: dict[bytes, Verdict] = {}
    for job_id, waiting in members.items():
        try:
            job = client.jobs.get(job_id)
        except NotFoundError:
            continue
        if not job.done:
            continue
        results = {result.id: result for result in job.results}
        for entry in waiting:
            result: Classification | None = results.get(entry.key.hex())
            if result is None and len(waiting) == 1 and not results:
                result = job
            if result is not None:
                answers[entry.key] = Verdict.of(result, job_id)
    return answers


def _history(client: ClassifailyClient, since: float) -> tuple[dict[str, Verdict], bool]:
    """Verdicts by item id, and whether the history holds jobs that could be anybody's."""
    by_item: dict[str, Verdict] = {}
    ambiguous = False
    for job in client.jobs.iterate():
        if job.created_at is not None and job.created_at.timestamp() < since:
            break  # newest first
        if not job.done or (job.input_preview is not None and not job.results):
            ambiguous = True
            continue
        for result in _whole(client, job).results:
            if result.id is not None:
                by_item[result.id] = Verdict.of(result, job.id)
    return by_item, ambiguous


def _whole(client: ClassifailyClient, job: Job) -> Job:
    # A listing may leave a batch's results out.
    return job if job.results or job.id is None else client.jobs.get(job.id)

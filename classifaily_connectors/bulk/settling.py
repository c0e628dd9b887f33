"""Settling open questions without the rows.

The ledger holds digests, so nothing can be sent again from here, and a single call's job, of which the API keeps only
a preview of the input, cannot be told from another's. What can be done: a job whose id was recorded is looked up, and
an item of a batch carries our key as its id, so the history knows it. What the answers mean is decided in `decisions`
and `reconcile`, as in a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.decisions import Choices, decide
from classifaily_connectors.bulk.reconcile import answers_of, by_job, examine, seconds_back
from classifaily_connectors.errors import NotFoundError

if TYPE_CHECKING:
    from classifaily_connectors.bulk.rows import Verdict
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.store import Entry, Ledger

_CHOICES = Choices(on_unknown="reconcile", prefers_old_answer=False)


@dataclass(frozen=True, slots=True)
class Settled:
    """How many entries were `answered` by the API's history, `dropped` as never executed, and are still `left`."""

    answered: int
    dropped: int
    left: int


def reconcile(client: ClassifailyClient, ledger: Ledger) -> Settled:
    """Ask the API's history about every unsettled entry; free.

    What another run finishes or takes over meanwhile is left as that run leaves it. An answer from before a purchase
    that was not executed stands again. Raises what reading the history raises, and StoreError.
    """
    entries = ledger.unsettled()
    answers, gone = _ask_jobs(client, [each for each in entries if decide(each, _CHOICES) == "fetch_job"])
    to_ask = [each for each in entries if decide(each, _CHOICES, job_is_gone=each.key in gone) == "ask_history"]
    absent: list[Entry] = []
    if to_ask:
        pairs = [(None, entry) for entry in to_ask]
        now = ledger.now()
        findings = examine(client.jobs.history(seconds_back(pairs, now)), pairs, now)
        answers |= findings.answered
        absent = findings.absent
    run_id = ledger.start_run()
    try:
        ledger.finish(run_id, {key: verdict.dump() for key, verdict in answers.items()})
        dropped = ledger.forget(absent)
    finally:
        ledger.end_run(run_id)
    return Settled(len(answers), dropped, len(entries) - len(answers) - dropped)


def _ask_jobs(client: ClassifailyClient, entries: list[Entry]) -> tuple[dict[bytes, Verdict], set[bytes]]:
    """What the recorded jobs say, and the keys of which they say nothing."""
    answers: dict[bytes, Verdict] = {}
    gone: set[bytes] = set()
    for job_id, members in by_job(entries).items():
        keys = [entry.key for entry in members]
        try:
            job = client.jobs.get(job_id)
        except NotFoundError:
            gone.update(keys)
            continue
        if job.done:
            told = answers_of(job, keys)
            answers |= told
            gone.update(set(keys) - told.keys())
    return answers, gone

"""What is done about a key, by what the ledger says of it.

One table, asked by runs, by plans, by single submissions and by `classifaily ledger settle`. It is pure: it reads no
clock, no database and no network. A row is bought when nobody has it; when its answer is to be bought anew on purpose;
and when it may have been paid but the caller chose to pay again. In every other case it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from classifaily_connectors.bulk.rows import Verdict

if TYPE_CHECKING:
    from classifaily_connectors.store.entry import Entry

OnUnknown = Literal["park", "reconcile", "resend"]
Decision = Literal["reuse", "buy", "wait", "fetch_job", "ask_history", "leave_unknown"]
"""`reuse` the stored answer; `buy`; `wait` for the live run that is paying; `fetch_job`, whose id is recorded;
`ask_history`, whether it was paid; `leave_unknown`, as it may have been."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the caller chose. `on_unknown` None asks the history about what is old enough, and leaves the rest.

    `keeps_jobs` is for submissions, to which a job's id is the answer. `prefers_old_answer` takes the answer from
    before a purchase that was meant to replace it and was interrupted; False asks what became of that purchase.
    """

    refresh: bool | Literal["failed"] = False
    on_unknown: OnUnknown | None = "park"
    keeps_jobs: bool = False
    prefers_old_answer: bool = True


def decide(
    entry: Entry | None,
    choices: Choices,
    *,
    is_live: bool = False,
    is_new: bool = False,
    is_old: bool = False,
    job_is_gone: bool = False,
) -> Decision:
    """What to do about the key of `entry` (None: the ledger does not have it).

    `is_live` says that the run that claimed it is at work; `is_new` that the answer was bought after the caller asked
    for new ones; `is_old` that its request has surely ended and the history knows of it; `job_is_gone` that the API
    does not know the recorded job, or that the job says nothing of this key.
    """
    if entry is None:
        return "buy"
    has_job = entry.job_id is not None and not job_is_gone
    if entry.state == "done" or (choices.keeps_jobs and has_job):
        return "buy" if _is_to_be_replaced(entry, choices) and not is_new else "reuse"
    if entry.state == "open" and is_live:
        return "wait"
    if has_job:
        return "fetch_job"
    if choices.refresh is True:
        return "buy"
    if entry.answer is not None and choices.prefers_old_answer:
        return "reuse"
    if choices.on_unknown == "resend":
        return "buy"
    is_asked = choices.on_unknown == "reconcile" or (choices.on_unknown is None and is_old)
    return "ask_history" if is_asked else "leave_unknown"


def _is_to_be_replaced(entry: Entry, choices: Choices) -> bool:
    if choices.refresh != "failed":
        return choices.refresh
    return entry.answer is not None and Verdict.load(entry.answer).failed

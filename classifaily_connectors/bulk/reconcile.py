"""What the API says about requests whose answers were lost: in a job, or in the history of jobs.

Runs, plans and `classifaily ledger settle` ask here. An answer is taken only when it is certainly the one: a batch's by
the item id, which is our key; a single one's by a preview that fits this request and no other. A request counts as not
executed only when the history is complete and holds nothing that it could be. The rest stays unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.rows import Verdict, describe
from classifaily_connectors.errors import JobFailedError
from classifaily_connectors.operations import jobs

if TYPE_CHECKING:
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.models import Job
    from classifaily_connectors.operations.history import Found, History
    from classifaily_connectors.store import Entry

Pair = tuple["Unit | None", "Entry"]
"""A claim, and the row that it is for where that is known."""

SETTLE_AFTER = 60.0
"""Seconds after which a request that left no record did not run."""
_MARGIN = 3600.0
"""Seconds by which the time of a claim and that of its job may disagree, once our clock and the server's have been
compared: a clock may have been set meanwhile, and may be an hour off."""
_CLOSE = 120.0
"""Seconds by which they disagree at most where both clocks are sound."""
_LONGEST = 3600.0
"""Seconds after its claim by which a request has certainly reached the server, or never will."""
_KEPT = 6 * 86_400.0
"""Seconds of history every plan has (API reference, Plan comparison: 7 days at least), less a day to be sure."""
_ELLIPSES = ("...", "…")


@dataclass(slots=True)
class Findings:
    """`answered` were executed, `absent` were not, of `unsure` the history does not tell, and `too_early` may be
    running still."""

    answered: dict[bytes, Verdict] = field(default_factory=dict[bytes, Verdict])
    absent: list[Entry] = field(default_factory=list["Entry"])
    unsure: list[Entry] = field(default_factory=list["Entry"])
    too_early: list[Entry] = field(default_factory=list["Entry"])


def seconds_back(pairs: Iterable[Pair], now: float) -> float:
    """How many seconds of history must be read for these claims; `now` is the ledger's clock."""
    return max((now - entry.claimed_at for _unit, entry in pairs), default=0.0) + _MARGIN


def examine(history: History, pairs: Sequence[Pair], now: float, settle_after: float = SETTLE_AFTER) -> Findings:
    """What became of each claim; `now` is the ledger's clock just before the history was read."""
    findings = Findings()
    ages = {entry.key: now - entry.claimed_at for _unit, entry in pairs}
    candidates = {
        entry.key: [(job, age) for job, age in history.singles if _may_be(age, ages[entry.key]) and _fits(job, unit)]
        for unit, entry in pairs
    }
    wanted = Counter(job.id for fitting in candidates.values() for job, _age in fitting)
    for unit, entry in pairs:
        key, age = entry.key, ages[entry.key]
        found, fitting = history.results.get(key.hex()), candidates[key]
        if found is not None and not _is_from_before(found, entry, age):
            findings.answered[key] = Verdict.of(found.result, found.job_id)
        elif unit is not None and (job := _only(fitting, age)) is not None and wanted[job.id] == 1:
            findings.answered[key] = Verdict.of(job, job.id)
        elif fitting or not _is_covered(history, entry, age):
            findings.unsure.append(entry)
        elif age < settle_after or any(_may_be(each, age) for each in history.running):
            findings.too_early.append(entry)
        else:
            findings.absent.append(entry)
    return findings


def answers_of(job: Job, keys: Sequence[bytes]) -> dict[bytes, Verdict]:
    """What an ended job says of the claims that it was recorded for."""
    results = {result.id: result for result in job.results}
    answers = {key: Verdict.of(results[key.hex()], job.id) for key in keys if key.hex() in results}
    try:
        jobs.settled(job)
    except JobFailedError as error:
        failed = Verdict((), describe(error), failed=True, job_id=job.id)
        return {key: answers.get(key, failed) for key in keys}
    if len(keys) == 1 and not results:
        return {keys[0]: Verdict.of(job, job.id)}
    return answers


def by_job(entries: Iterable[Entry]) -> Mapping[str, list[Entry]]:
    """Entries by the job that is recorded for them; those without one are left out."""
    members: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.job_id is not None:
            members.setdefault(entry.job_id, []).append(entry)
    return members


def _may_be(job_age: float | None, claim_age: float) -> bool:
    """Whether a job of this age may belong to a claim of that age."""
    return job_age is None or -_MARGIN <= claim_age - job_age <= _MARGIN + _LONGEST


def _is_from_before(found: Found, entry: Entry, age: float) -> bool:
    """Whether this is the answer that was to be replaced: the key is the same."""
    return entry.answer is not None and (found.age is None or found.age > age + _CLOSE)


def _is_covered(history: History, entry: Entry, age: float) -> bool:
    """Whether a request of this claim would stand in the history. A job that was recorded did run, so its absence says
    nothing; a claim from the future shows that a clock was wrong."""
    return history.complete and entry.job_id is None and -_CLOSE <= age <= _KEPT


def _only(fitting: Sequence[tuple[Job, float | None]], age: float) -> Job | None:
    """The one job that fits, if it is complete and certainly of the claim's time."""
    if len(fitting) != 1:
        return None
    job, job_age = fitting[0]
    in_time = job_age is not None and -_CLOSE <= age - job_age <= _LONGEST
    return job if in_time and job.done and not (job.input_preview or "").endswith(_ELLIPSES) else None


def _fits(job: Job, unit: Unit | None) -> bool:
    """Whether `job` may be this row's: its type and categories, and a preview that its input begins with."""
    if unit is None:
        return True
    text, preview = unit.item["input"], job.input_preview or ""
    cut = next((each for each in _ELLIPSES if preview.endswith(each)), None)
    same_text = text == preview if cut is None else text.startswith(preview.removesuffix(cut))
    names = frozenset(each.name for each in job.categories)
    same_set = not names or unit.allowed in (None, names)
    return bool(same_text) and same_set and job.input_type in (None, unit.item.get("type", "text"))

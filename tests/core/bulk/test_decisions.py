"""The table of what is done about a key: one line for each thing the ledger may say and each choice of the caller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from classifaily_connectors.bulk.decisions import Choices, decide
from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.store.entry import Entry

FINE, FAILED = Verdict().dump(), Verdict((), "broken", failed=True).dump()
OPEN = Entry(b"k" * 16, "open", "run", 0.0)
PARKED, DONE = replace(OPEN, state="parked"), replace(OPEN, state="done", answer=FINE)
PARK, RECONCILE, RESEND = Choices(), Choices(on_unknown="reconcile"), Choices(on_unknown="resend")
IN_TIME = Choices(on_unknown=None)
ANEW, FAILED_ANEW = Choices(refresh=True), Choices(refresh="failed")
ALL = (PARK, IN_TIME, RECONCILE, RESEND, ANEW, FAILED_ANEW)
SUBMIT, SUBMIT_ANEW = Choices(keeps_jobs=True), Choices(refresh=True, keeps_jobs=True)
SETTLE = Choices(on_unknown="reconcile", prefers_old_answer=False)

TABLE: list[tuple[Entry | None, dict[str, bool], tuple[Choices, ...], str]] = [
    (None, {}, (*ALL, SUBMIT), "buy"),
    (DONE, {}, (PARK, RECONCILE, RESEND, FAILED_ANEW, SUBMIT), "reuse"),
    (DONE, {}, (ANEW, SUBMIT_ANEW), "buy"),
    (DONE, {"is_new": True}, ALL, "reuse"),
    (replace(DONE, answer=FAILED), {}, (PARK, RECONCILE, RESEND), "reuse"),
    (replace(DONE, answer=FAILED), {}, (ANEW, FAILED_ANEW), "buy"),
    (replace(DONE, answer=FAILED), {"is_new": True}, (ANEW, FAILED_ANEW), "reuse"),
    # Somebody is at it.
    (OPEN, {"is_live": True}, (*ALL, SUBMIT, SUBMIT_ANEW), "wait"),
    (replace(OPEN, job_id="7"), {"is_live": True}, ALL, "wait"),
    (replace(OPEN, answer=FINE), {"is_live": True}, ALL, "wait"),
    # Nobody is: perhaps paid.
    *[
        line
        for entry in (OPEN, PARKED)
        for line in (
            (entry, {}, (PARK, IN_TIME, FAILED_ANEW, SUBMIT), "leave_unknown"),
            (entry, {"is_old": True}, (PARK, FAILED_ANEW, SUBMIT), "leave_unknown"),
            (entry, {"is_old": True}, (IN_TIME, RECONCILE, SETTLE), "ask_history"),
            (entry, {}, (RECONCILE, SETTLE), "ask_history"),
            (entry, {}, (RESEND, ANEW, SUBMIT_ANEW), "buy"),
            # A purchase on purpose was interrupted, and the answer from before it is still there.
            (replace(entry, answer=FINE), {}, (PARK, IN_TIME, RECONCILE, RESEND, FAILED_ANEW), "reuse"),
            (replace(entry, answer=FINE), {}, (ANEW,), "buy"),
            (replace(entry, answer=FINE), {}, (SETTLE,), "ask_history"),
            # A job is picked up before anything else is thought of.
            (replace(entry, job_id="7"), {}, (*ALL, SETTLE), "fetch_job"),
            (replace(entry, job_id="7"), {"job_is_gone": True}, (PARK,), "leave_unknown"),
            (replace(entry, job_id="7"), {"job_is_gone": True}, (RECONCILE, SETTLE), "ask_history"),
            (replace(entry, job_id="7"), {"job_is_gone": True}, (RESEND, ANEW), "buy"),
        )
    ],
    # To a submission, a job is the answer.
    (replace(OPEN, job_id="7"), {"is_live": True}, (SUBMIT,), "reuse"),
    (replace(OPEN, job_id="7"), {}, (SUBMIT,), "reuse"),
    (replace(OPEN, job_id="7"), {}, (SUBMIT_ANEW,), "buy"),
]


@pytest.mark.parametrize(("entry", "facts", "choices", "decision"), TABLE)
def test_the_table(entry: Entry | None, facts: dict[str, Any], choices: tuple[Choices, ...], decision: str) -> None:
    assert {each: decide(entry, each, **facts) for each in choices} == dict.fromkeys(choices, decision)

"""Jobs found, listed and awaited, whichever way the server speaks of them.

Driven by hand wherever time is concerned: a sleep takes none.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors.operations import jobs
from classifaily_connectors.operations.classify import batch, classify, join, submit
from classifaily_connectors.operations.context import Context
from classifaily_connectors.operations.effects import Lost, Reply, Send
from classifaily_connectors.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Caller, Canned, Driven

    Drive = Callable[..., Driven]
    MakeReply = Callable[..., Reply]

ONCE = RetryPolicy(attempts=1)
VERDICT = {"label": "billing", "confidence": 0.9}
DONE = {"id": "84", "status": "completed", "result": VERDICT}
MISSING = {"error": {"code": "job_not_found", "message": "No such job."}}
NO_VERB = {"error": {"code": "method_not_allowed", "message": "No."}}
OPTIONS: dict[str, Any] = {"categories": None, "schema": None, "mode": None, "threshold": None, "explain": False}


def address(send: Send) -> str:
    query = "&".join(f"{name}={value}" for name, value in (send.params or {}).items())
    return f"{send.path}?{query}" if query else send.path


# --- one job ------------------------------------------------------------------------------------------------------

BY_QUERY, BY_PATH = "/jobs?id=84", "/jobs/84"
OTHERS = [{"id": str(each), "status": "completed"} for each in (1, 2)]
SERVERS: dict[str, tuple[tuple[int, Any], tuple[int, Any], str]] = {
    "query": ((200, DONE), (404, MISSING), BY_QUERY),
    "query, listed": ((200, {"jobs": [DONE], "total": 1}), (404, MISSING), BY_QUERY),
    "query, bare list": ((200, [DONE]), (404, MISSING), BY_QUERY),
    "query, list by PHP": ((200, {"jobs": {"3": DONE}}), (404, MISSING), BY_QUERY),
    "query, under data": ((200, {"data": [*OTHERS, DONE]}), (404, MISSING), BY_QUERY),
    "path, query unknown": ((404, MISSING), (200, DONE), BY_PATH),
    "path, query not allowed": ((405, NO_VERB), (200, DONE), BY_PATH),
    "path, query ignored": ((200, {"jobs": OTHERS}), (200, DONE), BY_PATH),
    "path, query lists none": ((200, {"jobs": []}), (200, DONE), BY_PATH),
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_job_is_found_by_query_or_by_path_and_the_way_remembered(server: str, drive: Drive, reply: MakeReply) -> None:
    """`GET /jobs?id=` says the reference, `GET /jobs/{id}` the changelog."""
    by_query, by_path, works = SERVERS[server]
    context = Context(ONCE)

    def answer(send: Send) -> Reply:
        return reply(*(by_query if send.params else by_path))

    first = drive(jobs.get_job(context, 84), answer)
    assert (first.value.id, first.value.label) == ("84", "billing")
    assert address(first.sends[-1]) == works
    again = drive(jobs.get_job(context, "84"), answer)
    assert [address(send) for send in again.sends] == [works]
    assert again.value == first.value


def test_an_unknown_job_is_not_found(drive: Drive, reply: MakeReply) -> None:
    context = Context(ONCE)
    driven = drive(jobs.get_job(context, "84"), [reply(404, MISSING), reply(404, MISSING)])
    assert type(driven.error) is cc.NotFoundError
    assert driven.error.code == "job_not_found"  # type: ignore[attr-defined]
    assert context.job_by is None
    driven = drive(jobs.get_job(context, "84"), [reply(200, {"jobs": OTHERS}), reply(200, {"jobs": OTHERS})])
    assert type(driven.error) is cc.NotFoundError


def test_an_answer_without_id_is_the_job_asked_for(drive: Drive, reply: MakeReply) -> None:
    driven = drive(jobs.get_job(Context(ONCE), "84"), [reply(200, {"status": "pending"})])
    assert driven.value.id == "84"


def test_ids_are_opaque(drive: Drive, reply: MakeReply) -> None:
    wanted = "batch_6/12?a b"
    driven = drive(
        jobs.get_job(Context(ONCE, job_by="path"), wanted), [reply(200, {"id": wanted, "status": "pending"})]
    )
    assert driven.sends[0].path == "/jobs/batch_6%2F12%3Fa%20b"


# --- many jobs ----------------------------------------------------------------------------------------------------

LISTED = [{"id": 2, "status": "failed"}, {"id": "1", "status": "completed"}]


@pytest.mark.parametrize(
    ("wire", "total"),
    [
        ({"jobs": LISTED, "total": 7, "limit": 20, "offset": 0}, 7),
        ({"data": LISTED}, None),
        (LISTED, None),
        ({"jobs": {"0": LISTED[0], "2": LISTED[1]}, "total": "7"}, None),
        ({"0": LISTED[0], "2": LISTED[1]}, None),
    ],
)
def test_pages_come_in_any_envelope(wire: Any, total: int | None, drive: Drive, reply: MakeReply) -> None:
    driven = drive(jobs.list_jobs(Context(ONCE)), [reply(200, wire)])
    assert [job.id for job in driven.value] == ["2", "1"]
    assert driven.value.total == total


@pytest.mark.parametrize("empty", [[], {"jobs": []}, {"jobs": None}, {"data": {}, "total": 0}])
def test_empty_pages(empty: Any, drive: Drive, reply: MakeReply) -> None:
    assert drive(jobs.list_jobs(Context(ONCE)), [reply(200, empty)]).value == []


@pytest.mark.parametrize("odd", [None, "jobs", 7, {}, {"message": "hi"}])
def test_what_is_no_page_is_no_empty_page(odd: Any, drive: Drive, reply: MakeReply) -> None:
    assert type(drive(jobs.list_jobs(Context(ONCE)), [reply(200, odd)]).error) is cc.ServerError


def paging(canned: Canned, *, total: bool, newcomers: int = 0, ignore_offset: bool = False) -> None:
    """A server of 250 jobs, newest first; `newcomers` more arrive after every page."""
    state = {"newest": 250}

    def respond(asked: Any) -> tuple[int, dict[str, str], bytes]:
        query = dict(pair.split("=") for pair in asked.path.partition("?")[2].split("&"))
        start = 0 if ignore_offset else int(query["offset"])
        every = list(range(state["newest"], 0, -1))
        listed = [{"id": each, "status": "completed"} for each in every[start : start + int(query["limit"])]]
        state["newest"] += newcomers
        wire = {"jobs": listed, **({"total": len(every)} if total else {})}
        return 200, {"Content-Type": "application/json"}, json.dumps(wire).encode()

    canned.respond = respond


@pytest.mark.parametrize("total", [True, False])
def test_iterating_gives_every_job_once(total: bool, caller: Caller, canned: Canned) -> None:
    paging(canned, total=total)
    found = [int(job.id) for job in caller(lambda c: c.jobs.iterate())]
    assert found == list(range(250, 0, -1))
    assert len(canned.asked) == (3 if total else 4)


@pytest.mark.parametrize("total", [True, False])
def test_jobs_pushed_to_later_pages_are_not_repeated(total: bool, caller: Caller, canned: Canned) -> None:
    paging(canned, total=total, newcomers=7)
    found = [int(job.id) for job in caller(lambda c: c.jobs.iterate())]
    assert found == list(range(250, 0, -1))


@pytest.mark.parametrize("total", [True, False])
def test_a_server_that_ignores_the_offset_ends(total: bool, caller: Caller, canned: Canned) -> None:
    paging(canned, total=total, ignore_offset=True)
    found = [int(job.id) for job in caller(lambda c: c.jobs.iterate())]
    assert found == list(range(250, 150, -1))
    assert len(canned.asked) == 2


def test_entries_without_an_id_end_the_iteration(caller: Caller, canned: Canned) -> None:
    canned.respond = lambda _asked: (200, {}, b'{"jobs": [{"status": "completed"}, null, 7]}')
    found = caller(lambda c: c.jobs.iterate())
    assert len(found) <= 3
    assert len(canned.asked) == 1


# --- waiting ------------------------------------------------------------------------------------------------------


def wait(drive: Drive, answers: Any, *, policy: RetryPolicy = ONCE, job_id: str | int = 84, **terms: Any) -> Driven:
    return drive(jobs.wait_for_job(Context(policy, job_by="query"), job_id, **terms), answers)


PENDING = {"id": "84", "status": "pending"}


def test_looks_grow_rarer(drive: Drive, reply: MakeReply) -> None:
    """1 s, then half as long again each time, at most 30 s; spread by a fifth so that waiters do not march."""
    waited = wait(drive, [reply(200, PENDING)] * 14 + [reply(200, DONE)], timeout=1e6)
    assert waited.value.label == "billing"
    assert len(waited.sends) == 15
    expected = [min(30.0, 1.5**look) for look in range(14)]
    for pause, middle in zip(waited.sleeps, expected, strict=True):
        assert middle * 0.8 <= pause <= middle * 1.2
    assert len({pause / middle for pause, middle in zip(waited.sleeps, expected, strict=True)}) > 5


def test_a_finished_job_needs_one_look(drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, [reply(200, DONE)])
    assert (waited.value.label, waited.sleeps) == ("billing", [])


def test_a_newborn_job_is_given_time_first(drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, [reply(200, DONE)], newborn=True)
    assert len(waited.sleeps) == 1
    assert 0.8 <= waited.sleeps[0] <= 1.2


@pytest.mark.parametrize("timeout", [0, 0.5, 10, 100])
def test_the_deadline_brings_one_last_look(timeout: float, drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, lambda _send: reply(200, PENDING), timeout=timeout)
    assert isinstance(waited.error, cc.JobTimeoutError)
    assert (waited.error.job_id, waited.error.status) == ("84", "pending")
    assert waited.error.outcome == "unknown"
    assert sum(waited.sleeps) == pytest.approx(timeout)
    assert len(waited.sends) == len(waited.sleeps) + 1


def test_a_job_that_ends_at_the_deadline_is_not_lost(drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, [reply(200, PENDING), reply(200, DONE)], timeout=0.25)
    assert waited.sleeps == [0.25]
    assert waited.value.label == "billing"


def test_slow_answers_count_towards_the_deadline(drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, lambda _send: reply(200, PENDING, elapsed=4.0), timeout=10)
    assert isinstance(waited.error, cc.JobTimeoutError)
    assert sum(waited.sleeps) == pytest.approx(10 - 2 * 4)
    assert len(waited.sends) == 3


def test_the_policy_sets_the_patience(drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, lambda _send: reply(200, PENDING), policy=RetryPolicy(attempts=1, max_wait=42))
    assert sum(waited.sleeps) == pytest.approx(42)


@pytest.mark.parametrize("trouble", ["500", "502", "503", "lost", "refused", "429"])
def test_passing_trouble_is_sat_out(trouble: str, drive: Drive, reply: MakeReply) -> None:
    came = {
        "500": reply(500, {"error": {"code": "server_error", "message": "No."}}),
        "502": reply(502, b"<html>"),
        "503": reply(503, b"<html>"),
        "lost": Lost("unknown", "ReadTimeout"),
        "refused": Lost("not_sent", "refused"),
        "429": reply(429, {"error": "slow down"}, retry_after="5"),
    }[trouble]
    assert wait(drive, [came, reply(200, PENDING), came, came, reply(200, DONE)]).value.label == "billing"
    assert type(wait(drive, lambda _send: came, timeout=5).error) is cc.JobTimeoutError


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"code": "unauthorized", "message": "No."}}, cc.AuthenticationError),
        (403, {"error": {"code": "subscription_inactive", "message": "No."}}, cc.SubscriptionInactiveError),
        (404, MISSING, cc.NotFoundError),
        (301, b"", cc.ConfigurationError),
    ],
)
def test_lasting_trouble_ends_the_wait(status: int, body: Any, kind: type, drive: Drive, reply: MakeReply) -> None:
    assert type(wait(drive, lambda _send: reply(status, body)).error) is kind


def test_not_found_may_only_mean_not_yet(drive: Drive, reply: MakeReply) -> None:
    missing = reply(404, MISSING)
    assert wait(drive, [missing, missing, reply(200, DONE)], newborn=True).value.label == "billing"
    never = wait(drive, lambda _send: missing, newborn=True)
    assert type(never.error) is cc.NotFoundError
    assert 15 < sum(never.sleeps) < 40


@pytest.mark.parametrize(
    ("error", "told", "code"),
    [
        ({"code": "media_error", "message": "Cannot fetch."}, "job 84 failed: Cannot fetch.", "media_error"),
        ("Cannot fetch.", "job 84 failed: Cannot fetch.", None),
        (None, "job 84 failed: the server gave no reason", None),
    ],
)
def test_a_failed_job_says_why(error: Any, told: str, code: str | None, drive: Drive, reply: MakeReply) -> None:
    waited = wait(drive, [reply(200, {"id": 84, "status": "failed", "result": None, "error": error})])
    assert isinstance(waited.error, cc.JobFailedError)
    assert (str(waited.error), waited.error.job_id, waited.error.code) == (told, "84", code)
    assert waited.error.outcome == "failed"


# --- answers that only say "accepted" -----------------------------------------------------------------------------


def run_classify(drive: Drive, *answers: Reply | Lost) -> Driven:
    return drive(classify(Context(ONCE), "x", **OPTIONS, type="text", top_n=None), answers)


@pytest.mark.parametrize("key", ["id", "job_id"])
@pytest.mark.parametrize("status", [202, 200])
@pytest.mark.parametrize("word", ["pending", "processing", "queued", None])
def test_queued_inputs_are_awaited(key: str, status: int, word: str | None, drive: Drive, reply: MakeReply) -> None:
    accepted = {key: 84, "status": word}
    driven = run_classify(drive, reply(status, accepted), reply(200, PENDING), reply(200, DONE))
    assert driven.value.label == "billing"
    assert [address(send) for send in driven.sends] == ["/classify", BY_QUERY, BY_QUERY]
    assert [send.once for send in driven.sends] == [True, False, False]


def test_a_job_without_a_name_has_an_unknown_outcome(drive: Drive, reply: MakeReply) -> None:
    for answer in ({"status": "pending"}, {"id": None, "status": "pending", "result": None}, {}, None):
        driven = run_classify(drive, reply(202, answer))
        assert type(driven.error) is cc.OutcomeUnknownError, answer
        assert len(driven.sends) == 1


def test_an_answer_below_the_threshold_is_an_answer(drive: Drive, reply: MakeReply) -> None:
    driven = run_classify(drive, reply(200, {"id": "84", "status": "completed", "result": None}))
    assert (driven.value.label, len(driven.sends)) == (None, 1)


def test_a_verdict_that_failed_at_once_is_raised(drive: Drive, reply: MakeReply) -> None:
    driven = run_classify(drive, reply(200, {"id": "84", "status": "failed", "result": None, "error": "No."}))
    assert type(driven.error) is cc.JobFailedError


def test_an_unanswered_wait_carries_the_job(drive: Drive, reply: MakeReply) -> None:
    policy = RetryPolicy(attempts=1, max_wait=3)
    operation = classify(Context(policy), "x", **OPTIONS, type="text", top_n=None)
    driven = drive(operation, lambda send: reply(202, {"job_id": "84"}) if send.once else reply(200, PENDING))
    assert isinstance(driven.error, cc.JobTimeoutError)
    assert driven.error.job_id == "84"


def test_submit_never_waits(drive: Drive, reply: MakeReply) -> None:
    operation = submit(Context(ONCE), "x", **OPTIONS, type="text", top_n=None)
    driven = drive(operation, [reply(202, {"job_id": "84", "status": "pending"})])
    assert (driven.value.id, driven.value.done, len(driven.sends)) == ("84", False, 1)


def test_a_queued_batch_is_awaited(drive: Drive, reply: MakeReply) -> None:
    results = [{"id": "1", "status": "completed", "result": VERDICT}]
    job = {"id": "batch_9", "status": "completed", "results": results}
    operation = batch(Context(ONCE), ["x", "y"], type=None, **OPTIONS)
    driven = drive(operation, [reply(202, {"id": "batch_9", "status": "pending", "results": []}), reply(200, job)])
    assert [address(send) for send in driven.sends] == ["/batch", "/jobs?id=batch_9"]
    assert [each.label for each in driven.value.results] == [None, "billing"]
    assert [each.id for each in driven.value.results] == ["0", "1"]
    missing = driven.value.results[0]
    assert missing.failed
    assert missing.error.code == "result_missing"


def answered(*ids: str | None) -> list[cc.Classification]:
    return [cc.Classification(id=each, labels=(cc.Label(label=f"of {each}"),)) for each in ids]


@pytest.mark.parametrize(
    ("came", "labels"),
    [
        (("a", "b"), ["of a", "of b"]),
        (("b", "a"), ["of a", "of b"]),
        ((None, None), ["of None", "of None"]),
        ((None,), [None, None]),
        (("a",), ["of a", None]),
        ((), [None, None]),
        (("0", "1"), [None, None]),
        (("a", None), ["of a", None]),
        (("a", "a", "b"), ["of a", "of b"]),
        (("x", "a", "b"), ["of a", "of b"]),
    ],
)
def test_answers_are_joined_by_id_and_never_guessed(came: tuple[str | None, ...], labels: list[str | None]) -> None:
    joined = join(["a", "b"], answered(*came))
    assert [each.id for each in joined] == ["a", "b"]
    assert [each.label for each in joined] == labels
    assert [each.failed for each in joined] == [label is None for label in labels]


def test_batches_are_given_time_for_every_item(drive: Drive, reply: MakeReply) -> None:
    def patience(context: Context, count: int) -> float:
        operation = batch(context, ["x"] * count, type=None, **OPTIONS)
        return drive(operation, [reply(400)]).sends[0].timeout

    assert [patience(Context(ONCE), count) for count in (1, 100)] == [30.5, 80.0]
    assert patience(Context(ONCE, timeout=7), 100) == 7

"""`submit_once`: one job for one input, whoever asks, however often, and whatever dies meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifaily_connectors import (
    AuthenticationError,
    ClassifailyClient,
    InvalidRequestError,
    Ledger,
    OutcomeUnknownError,
    RetryPolicy,
    ServerError,
)
from classifaily_connectors.sandbox import Fault, Sandbox
from classifaily_connectors.submitting import NAMESPACE, submit_once

TEXT = "I was charged twice"
TEAMS = ["billing", "technical"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="pro") as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[ClassifailyClient]:
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url, retry=RetryPolicy(base=0.01)) as made:
        yield made


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


def submitted(sandbox: Sandbox) -> int:
    return [request[:2] for request in sandbox.requests].count(("POST", "/classify"))


def test_the_second_submission_is_the_first(sandbox: Sandbox, client: ClassifailyClient, ledger: str) -> None:
    first = submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    again = submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    assert first.id == again.id
    assert submitted(sandbox) == sandbox.bill().charged == 1
    assert client.jobs.wait(first.id or "").label == "billing"


def test_another_question_is_another_job(sandbox: Sandbox, client: ClassifailyClient, ledger: str) -> None:
    schema = client.schemas.create("teams", TEAMS)
    asked = [
        submit_once(client, TEXT, ledger=ledger, categories=TEAMS),
        submit_once(client, TEXT, ledger=ledger, categories=TEAMS, explain=True),
        submit_once(client, TEXT, ledger=ledger, categories=[*TEAMS, "account"]),
        submit_once(client, f"{TEXT}!", ledger=ledger, categories=TEAMS),
    ]
    assert len({job.id for job in asked}) == len(asked)
    # A schema with the same content is the same question, whatever its number.
    single = submit_once(client, TEXT, ledger=ledger, categories=TEAMS, mode="single")
    assert submit_once(client, TEXT, ledger=ledger, schema=schema.id).id == single.id
    assert submit_once(client, TEXT, ledger=ledger, categories=TEAMS, refresh=True).id not in {job.id for job in asked}


def test_many_at_once_submit_once(sandbox: Sandbox, client: ClassifailyClient, ledger: str) -> None:
    sandbox.inject(Fault(kind="delay", path="/classify", seconds=0.3, times=None))
    Ledger(ledger).close()
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: submit_once(client, TEXT, ledger=ledger, categories=TEAMS), range(8)))
    assert len({job.id for job in jobs}) == 1
    assert submitted(sandbox) == 1


def test_media_need_an_identity(sandbox: Sandbox, client: ClassifailyClient, ledger: str) -> None:
    signed = "https://example.com/call.mp3?signature={}"
    with pytest.raises(InvalidRequestError, match="identity"):
        submit_once(client, signed.format(1), ledger=ledger, type="audio")
    first = submit_once(client, signed.format(1), ledger=ledger, type="audio", identity="etag-1")
    assert submit_once(client, signed.format(2), ledger=ledger, type="audio", identity="etag-1").id == first.id
    assert submit_once(client, signed.format(3), ledger=ledger, type="audio", identity="etag-2").id != first.id


def test_a_failed_job_and_a_forgotten_one_are_submitted_anew(
    sandbox: Sandbox, client: ClassifailyClient, ledger: str
) -> None:
    sandbox.script(TEXT, error="could not be read", times=1)
    first = submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    with pytest.raises(Exception, match="could not be read"):
        client.jobs.wait(first.id or "")
    second = submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    assert second.id != first.id
    gone = {"error": {"code": "not_found", "message": "no such job"}}
    sandbox.inject(Fault(kind="answer", path="/jobs", status=404, body=gone, times=2))
    assert submit_once(client, TEXT, ledger=ledger, categories=TEAMS).id not in {first.id, second.id}


def test_a_lost_answer_is_never_bought_again_unasked(sandbox: Sandbox, client: ClassifailyClient, ledger: str) -> None:
    sandbox.inject(Fault(kind="reset", path="/classify"))
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    assert submitted(sandbox) == sandbox.bill().charged == 1
    assert Ledger(ledger, namespace=NAMESPACE).stats().parked == 1
    assert submit_once(client, TEXT, ledger=ledger, categories=TEAMS, on_unknown="resend").id


def test_what_was_refused_may_be_tried_again(sandbox: Sandbox, client: ClassifailyClient, ledger: str) -> None:
    sandbox.revoke(sandbox.key)
    with pytest.raises(AuthenticationError):
        submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    sandbox.add_key(sandbox.key, plan="pro")
    sandbox.inject(Fault(kind="500", path="/classify", times=3))
    with pytest.raises(ServerError):
        submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    assert submit_once(client, TEXT, ledger=ledger, categories=TEAMS).id


def _submit(key: str, base_url: str, ledger: str) -> None:
    with ClassifailyClient(key, base_url=base_url) as client:
        submit_once(client, TEXT, ledger=ledger, categories=TEAMS)


def test_a_submitter_killed_in_the_middle_leaves_an_open_question(
    sandbox: Sandbox, client: ClassifailyClient, ledger: str
) -> None:
    """kill -9 while the request is under way: it may have been paid, so it is not sent again."""
    sandbox.inject(Fault(kind="delay", path="/classify", seconds=60))
    process = multiprocessing.get_context("spawn").Process(
        target=_submit, args=(sandbox.key, sandbox.base_url, ledger), daemon=True
    )
    process.start()
    assert process.pid
    deadline = time.monotonic() + 60
    while not sandbox.bill().charged:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    with pytest.raises(OutcomeUnknownError, match="may have been paid"):
        submit_once(client, TEXT, ledger=ledger, categories=TEAMS)
    assert sandbox.bill().charged == 1


def test_nothing_of_the_input_is_kept(client: ClassifailyClient, ledger: str, tmp_path: Path) -> None:
    secret = "the patient in room 12"
    thread = threading.Thread(target=submit_once, args=(client, secret), kwargs={"ledger": ledger})
    thread.start()
    thread.join()
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())

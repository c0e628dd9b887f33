"""One input, submitted once: across retries, workers and deaths between the request and its answer."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import (
    AsyncClassifailyClient,
    ClassifailyClient,
    InvalidRequestError,
    Ledger,
    NotSentError,
    OutcomeUnknownError,
    RetryPolicy,
)
from classifaily_connectors.bulk import submitting
from classifaily_connectors.bulk.submitting import asubmit_once, submit_once
from classifaily_connectors.sandbox import Fault, Sandbox, Switches
from classifaily_connectors.store import SUBMITTED

MONEY = "I was charged twice for my subscription."
TEAMS = ["billing", "technical"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def sandbox() -> Any:
    with Sandbox(plan="pro", switches=Switches(job_delay=0.0)) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Any:
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        yield client


def test_the_second_submit_finds_the_first_ones_job(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    first, second = (submit_once(client, MONEY, ledger=url, categories=TEAMS) for _ in range(2))
    assert first.id == second.id
    assert client.jobs.wait(str(second.id)).label == "billing"
    assert submit_once(client, MONEY, ledger=url, categories=["other", "billing"]).id != first.id
    assert submit_once(client, MONEY, ledger=url, categories=TEAMS, refresh=True).id != first.id
    assert sandbox.bill().charged == 3


def test_both_clients_share_what_they_bought(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    async def twin() -> Any:
        async with AsyncClassifailyClient(sandbox.key, base_url=sandbox.base_url) as other:
            return await asubmit_once(other, MONEY, ledger=url, schema=schema)

    schema = client.schemas.create("teams", TEAMS)
    assert asyncio.run(twin()).id == submit_once(client, MONEY, ledger=url, schema=schema.id).id
    assert sandbox.bill().charged == 1


def test_with_one_ledger_bulk_knows_what_was_submitted_and_the_other_way_round(
    client: ClassifailyClient, sandbox: Sandbox, url: str
) -> None:
    with closing(Ledger(url)) as shared:
        submit_once(client, MONEY, ledger=shared, categories=TEAMS)
        rows = list(client.classify_many([MONEY, "An error when I log in"], categories=TEAMS, ledger=shared))
        assert [(row.label, row.source) for row in rows] == [("billing", "ledger"), ("technical", "api")]
        found = submit_once(client, "An error when I log in", ledger=shared, categories=TEAMS)
    assert (found.done, found.label) == (True, "technical")
    assert sandbox.bill().charged == 2


def test_a_job_of_its_own_is_never_the_batch_that_a_row_went_with(
    client: ClassifailyClient, sandbox: Sandbox, url: str
) -> None:
    rows = list(client.classify_many([MONEY, "An error when I log in"], categories=TEAMS, ledger=url, batch_size=2))
    job = submit_once(client, MONEY, ledger=url, categories=TEAMS)
    assert job.id not in {row.job_id for row in rows}
    assert client.jobs.wait(str(job.id)).label == "billing"
    assert sandbox.bill().charged == 3


def test_workers_at_once_submit_once(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    sandbox.inject(Fault(kind="delay", path="/classify", seconds=0.3, times=None))
    ids: list[str | None] = []

    def work() -> None:
        ids.append(submit_once(client, MONEY, ledger=url, categories=TEAMS).id)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert len(set(ids)) == 1
    assert sandbox.bill().charged == 1


def test_a_lost_answer_is_not_sent_again_unless_told(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    sandbox.inject(Fault(kind="reset", after_work=True, path="/classify"))
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            submit_once(client, MONEY, ledger=url, categories=TEAMS)
    assert sandbox.bill().charged == 1
    with closing(Ledger(url, namespace=SUBMITTED)) as ledger:
        assert ledger.stats().parked == 1
    again = submit_once(client, MONEY, ledger=url, categories=TEAMS, on_unknown="resend")
    assert again.id == submit_once(client, MONEY, ledger=url, categories=TEAMS).id
    assert sandbox.bill().charged == 2


def test_a_death_between_the_request_and_its_answer_is_an_open_question(
    client: ClassifailyClient, sandbox: Sandbox, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(submitting.Purchase, "submitted", die)
    with pytest.raises(Killed):
        submit_once(client, MONEY, ledger=url, categories=TEAMS)
    monkeypatch.undo()
    with pytest.raises(OutcomeUnknownError, match="left no job id"):
        submit_once(client, MONEY, ledger=url, categories=TEAMS)
    assert sandbox.bill().charged == 1


def test_what_was_refused_or_never_left_is_free_to_try_again(
    client: ClassifailyClient, sandbox: Sandbox, url: str
) -> None:
    sandbox.inject(Fault(kind="answer", path="/classify", status=400, body={"error": {"message": "no"}}))
    with pytest.raises(InvalidRequestError):
        submit_once(client, MONEY, ledger=url, categories=TEAMS)
    away = "http://127.0.0.1:9/v1"
    retry = RetryPolicy(attempts=1)
    with ClassifailyClient(sandbox.key, base_url=away, retry=retry) as nowhere, pytest.raises(NotSentError):
        submit_once(nowhere, MONEY, ledger=url, categories=TEAMS)
    assert submit_once(client, MONEY, ledger=url, categories=TEAMS).id
    assert sandbox.bill().charged == 1


def test_media_are_told_apart_by_identity(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    address = "https://example.org/call.mp3?signature={}"
    with pytest.raises(InvalidRequestError, match="identity"):
        submit_once(client, address.format(1), ledger=url, type="audio", categories=TEAMS)
    jobs = [
        submit_once(client, address.format(number), ledger=url, type="audio", categories=TEAMS, identity=identity)
        for number, identity in enumerate(["call-1", "call-1", "call-2"])
    ]
    assert jobs[0].id == jobs[1].id != jobs[2].id
    assert sandbox.bill().charged == 2


def test_an_answer_that_came_at_once_is_kept(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    body = {"id": "77", "status": "completed", "result": {"label": "billing", "confidence": 0.9}}
    sandbox.inject(Fault(kind="answer", path="/classify", status=200, body=body))
    for _ in range(2):
        job = submit_once(client, MONEY, ledger=url, categories=TEAMS)
        assert (job.id, job.done, job.label) == ("77", True, "billing")
    nameless = Fault(kind="answer", path="/classify", status=202, body={"id": None, "status": "pending"})
    sandbox.inject(nameless)
    with pytest.raises(OutcomeUnknownError, match="named no job"):
        submit_once(client, "another", ledger=url, categories=TEAMS)


CALL = "https://calls.example.com/{}.mp3"


def test_recordings_in_a_scope_are_told_apart_by_their_addresses(
    client: ClassifailyClient, sandbox: Sandbox, url: str
) -> None:
    """However often an address is signed, and wherever it stands in a list."""

    def submitted(number: str, scope: str = "run-1", **more: Any) -> str:
        address = CALL.format(number)
        return str(submit_once(client, address, type="audio", ledger=url, categories=TEAMS, scope=scope, **more).id)

    first, second = submitted("one?X-Amz-Signature=aaa&X-Amz-Date=1"), submitted("two?sig=aaa&se=1")
    assert first != second
    assert submitted("one?X-Amz-Signature=bbb&X-Amz-Date=2") == first
    assert submitted("two?sig=bbb&se=2") == second
    assert submitted("one", scope="run-2") not in (first, second)
    # A parameter that may say which recording is meant.
    assert submitted("get?id=1&token=a") != submitted("get?id=2&token=a")
    assert submitted("get?id=1&token=b") == submitted("get?id=1&token=a")
    # What tells them apart by itself needs no scope.
    assert submitted("one", identity="etag") == submitted("elsewhere", "run-9", identity="etag")
    assert sandbox.bill().charged == 6


def test_a_text_is_itself_in_every_scope(client: ClassifailyClient, sandbox: Sandbox, url: str) -> None:
    for text in (MONEY, "https://example.com/page?token=1"):
        jobs = {submit_once(client, text, ledger=url, categories=TEAMS, scope=each).id for each in ("run-1", "run-2")}
        assert len(jobs) == 1
    assert submit_once(client, "https://example.com/page?token=2", ledger=url, categories=TEAMS, scope="run-1").id
    assert sandbox.bill().charged == 3

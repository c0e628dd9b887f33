"""The feed of the receiver: ids for waiters elsewhere, and for nobody else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors.webhooks import intake
from classifaily_connectors.webhooks.receiver import PATH
from classifaily_connectors.webhooks.secrets import feed_token

if TYPE_CHECKING:
    from conftest import Station

SECRET, OTHER = "whsec-of-the-tests", "whsec-of-another-source"
EVENT = b'{"event":"job.completed","id":"84"}'


@pytest.fixture
def ask_feed(station: Station) -> Callable[..., Any]:
    def ask_feed(query: str = "", secret: str = SECRET, path: str = PATH) -> Any:
        answer = station.ask("GET", f"{path}/feed?{query}", headers={"Authorization": f"Bearer {feed_token(secret)}"})
        if answer.status != 200:
            return answer.status
        told = answer.json
        assert told.pop("store") == station.inbox.identity
        return told

    return ask_feed


def test_the_feed_tells_ids_of_its_own_source(station: Station, ask_feed: Callable[..., Any]) -> None:
    assert ask_feed() == {"head": 0, "deliveries": []}
    station.deliver()
    station.deliver(secret=OTHER, path=f"{PATH}/staging")
    [delivery] = ask_feed()["deliveries"]
    received_at = delivery.pop("received_at")
    assert received_at > 1.7e9
    assert delivery == {
        "seq": 1,
        "source": "default",
        "event": "job.completed",
        "job_id": "84",
        "state": "ok",
        "redriven": 0,
    }
    assert [each["source"] for each in ask_feed(secret=OTHER, path=f"{PATH}/staging")["deliveries"]] == ["staging"]
    assert ask_feed("after=1") == {"head": 2, "deliveries": []}


def test_the_feed_knows_whether_a_job_is_there(station: Station, ask_feed: Callable[..., Any]) -> None:
    station.deliver()
    found = ask_feed("job_id=84&job_id=85&wait=20")
    assert [each["job_id"] for each in found["deliveries"]] == ["84"]
    assert ask_feed("job_id=85&wait=20") == {"head": 1, "deliveries": []}


def test_the_feed_opens_with_its_token_only(station: Station, ask_feed: Callable[..., Any]) -> None:
    assert ask_feed(secret=OTHER) == 401
    for shown in ("", "Bearer", f"Bearer {SECRET}", f"Basic {feed_token(SECRET)}", "Bearer é"):
        answer = station.ask("GET", f"{PATH}/feed", headers={"Authorization": shown.encode()})  # type: ignore[dict-item]
        assert (answer.status, answer.json["error"]["code"]) == (401, "unauthorized")
    assert ask_feed(path=f"{PATH}/unknown") == 401


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=1.5", "limit=", "wait=soon", "after=" + "9" * 30])
def test_a_question_that_makes_no_sense(query: str, ask_feed: Callable[..., Any]) -> None:
    assert ask_feed(query) == 400


@pytest.mark.parametrize("through", ["this receiver", "the store"])
def test_a_question_without_an_answer_is_held_until_there_is_one(
    through: str, station: Station, ask_feed: Callable[..., Any]
) -> None:
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(ask_feed("after=0&wait=30")))
    waiting.start()
    while not station.receiver._telling or not station.receiver._telling._listening:
        threading.Event().wait(0.01)
    if through == "this receiver":
        station.deliver()
    else:
        station.inbox.put([intake.read("default", EVENT, 1e9)])
    waiting.join(timeout=25)  # seconds before the wait would have ended by itself
    assert [each["job_id"] for each in answers[0]["deliveries"]] == ["84"]


def test_a_stop_answers_those_who_wait(open_station: Callable[..., Station]) -> None:
    station = open_station()
    answers: list[int] = []
    headers = {"Authorization": f"Bearer {feed_token(SECRET)}"}
    waiting = threading.Thread(
        target=lambda: answers.append(station.ask("GET", f"{PATH}/feed?after=0&wait=30", headers=headers).status)
    )
    waiting.start()
    while not station.receiver._telling or not station.receiver._telling._listening:
        threading.Event().wait(0.01)
    station.serving.close()
    waiting.join(timeout=25)
    assert answers == [200]


def test_the_feed_of_a_store_that_fails(station: Station, ask_feed: Callable[..., Any]) -> None:
    with sqlite3.connect(station.url.removeprefix("sqlite:///")) as other:
        other.execute("DROP TABLE classifaily_delivery")
    assert ask_feed() == 503

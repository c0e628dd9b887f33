"""A delivery that can be read is read, whatever else is in it; and dead letters can be read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors.store import Arrival, Inbox
from classifaily_connectors.webhooks import parse_event, redriving
from classifaily_connectors.webhooks.reading import read_body

if TYPE_CHECKING:
    from conftest import Station

DEEP = b"[" * 50_000 + b"]" * 50_000


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"event":"job.completed","id":"84","result":null}',
        '{"event":"job.completed","id":"84"}'.encode("utf-16"),
        b'{"event":"job.completed","id":"84","result":{"label":"a\\ud83d"}}',
        b'{"event":"job.completed","id":"84","result":{"label":"a\xff"}}',
        b'{"event":"job.completed","id":"84","result":NaN}',
        b'{"event":"job.completed","id":"84","n":1' + b"0" * 5000 + b"}",
        b'{"event":"job.completed","id":"84","result":' + DEEP + b"}",
        b'{ "result" :' + DEEP + b' , "event":"job.completed" ,"more":{"a":"]}"}, "id" : 84 }',
    ],
    ids=["BOM", "UTF-16", "half an emoji", "no UTF-8", "NaN", "a long number", "deep", "deep first"],
)
def test_what_can_be_read_is_no_dead_letter(body: bytes, station: Station) -> None:
    assert station.deliver(body).status == 204
    [delivery] = station.inbox.after(0)
    assert (delivery.event, delivery.job_id, delivery.state) == ("job.completed", "84", "ok")
    event = parse_event(body)
    assert (event.event, event.id) == ("job.completed", "84")
    assert event.job.done


UNREADABLE = [b"", b"[]", b"3", b"{", b'{"a":' + DEEP, b'{"a":' + DEEP + b"}}", b"{" + DEEP + b"}", DEEP]


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_is_said_to(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_body(body)


def letters(url: str) -> Inbox:
    """A store with dead letters of an earlier version, of which one can be read, and a good delivery."""
    inbox = Inbox(url)
    readable = b'\xef\xbb\xbf{"event":"job.completed","id":"84"}'
    inbox.put(
        [
            Arrival("default", "", "a" * 64, b"1", 1000.0, None, readable),
            Arrival("default", "", "b" * 64, b"2", 1000.0, None, b"junk"),
            Arrival("default", "job.completed", "7", b"3", 2e9, None, b'{"event":"job.completed","id":"7"}'),
        ]
    )
    return inbox


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    postgres: Callable[[], str] = request.getfixturevalue("postgres")
    return postgres()


def test_dead_letters_are_read_again(url: str) -> None:
    inbox = letters(url)
    found = [redriving.reread(inbox, each) for each in redriving.chosen(inbox, state="dead")]
    assert [each and each.job_id for each in found] == ["84", None]
    assert [(each.job_id, each.state) for each in inbox.after(0)] == [("b" * 64, "dead"), ("7", "ok"), ("84", "ok")]
    assert inbox.find("default", ["84"])["84"].received_at == 1000.0
    assert not inbox.bury(inbox.find("default", ["84"])["84"].seq)  # no dead letter, and so it stays
    inbox.close()


def test_a_letter_that_came_again_in_the_meantime_is_one_delivery(url: str) -> None:
    """And a crash after the delivery was kept, before the letter went, does no harm."""
    inbox = letters(url)
    letter = next(redriving.chosen(inbox, state="dead"))
    redriving.reread(inbox, letter)
    readable = b'\xef\xbb\xbf{"event":"job.completed","id":"84"}'
    inbox.put([Arrival("default", "", "a" * 64, b"1", 1000.0, None, readable)])
    again = next(each for each in redriving.chosen(inbox, state="dead") if each.job_id == "a" * 64)
    assert redriving.reread(inbox, again)
    assert [each.repeats for each in inbox.entries(job_id="84")] == [1]
    inbox.close()


def test_what_is_redriven_is_chosen_once(url: str) -> None:
    inbox = letters(url)
    chosen = [each.seq for each in redriving.chosen(inbox)]
    for seq in redriving.chosen(inbox, since=1500.0):
        redriving.redrive(inbox, seq.seq)
    assert [(each.job_id, each.redriven) for each in inbox.entries(job_id="7")] == [("7", 1)]
    assert len(chosen) == 3
    assert redriving.redrive(inbox, 10_000) is None
    assert json.loads(inbox.find("default", ["7"])["7"].body or b"")["id"] == "7"
    inbox.close()

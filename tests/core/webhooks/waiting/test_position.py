"""A reader's place in a feed means something in one store: a store that took its place is noticed, and read from its
first delivery on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import InvalidRequestError
from classifaily_connectors.store import Arrival, FeedEnd, Inbox
from classifaily_connectors.webhooks import open_feed
from classifaily_connectors.webhooks.position import FeedReader, Position

SECRET = "whsec-for-the-tests-of-waiting"


def put(inbox: Inbox, *job_ids: str) -> None:
    inbox.put([Arrival("default", "job.completed", each, each.encode(), time.time(), None, b"{}") for each in job_ids])


@pytest.mark.parametrize("text", ["12", "12@0abc", "0", "0@x"])
def test_a_position_is_read_as_it_was_written(text: str) -> None:
    assert str(Position.parse(text)) == text


def test_what_earlier_versions_kept_is_read() -> None:
    assert Position.parse(12) == Position.parse("12") == Position(12)
    assert Position.parse(None) == Position.parse("") == Position(0)
    assert Position(12).in_feed(FeedEnd("a", 12)) == Position(12, "a")


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "1@a b", "@a"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="no place in a feed"):
        Position.parse(text)


@pytest.mark.parametrize(
    ("place", "seq"),
    [(Position(3, "a"), 3), (Position(3), 3), (Position(3, "b"), 0), (Position(9, "a"), 0), (Position(9), 0)],
)
def test_a_place_of_another_store_is_none(place: Position, seq: int) -> None:
    assert place.in_feed(FeedEnd("a", 5)) == Position(seq, "a")


def test_a_replaced_store_is_read_from_its_begin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = Inbox(f"sqlite:///{tmp_path}/old.db"), Inbox(f"sqlite:///{tmp_path}/new.db")
    put(old, "1", "2", "3")
    put(new, "4", "5", "6", "7")
    reader = FeedReader(old, Position())
    assert [each.job_id for each in reader.page()] == ["1", "2", "3"]
    kept = str(reader.position)
    same = FeedReader(old, Position.parse(kept))
    assert same.page() == []
    assert not same.restarted
    moved = FeedReader(new, Position.parse(kept))  # as long as the old one, so only its identity tells
    assert [each.job_id for each in moved.page()] == ["4", "5", "6", "7"]
    assert "read from the first one on" in moved.restarted
    assert moved.restarted in caplog.text
    assert moved.position == Position(4, new.identity)
    old.close()
    new.close()


def test_a_store_that_is_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifaily_connectors.webhooks.position._CHECK", 0.0)
    feeds = [Inbox(f"sqlite:///{tmp_path}/{name}.db") for name in "ab"]
    put(feeds[0], *"12345")
    put(feeds[1], "6")
    reader = FeedReader(feeds[0], Position())
    reader.page()
    reader._feed = feeds[1]
    assert [each.job_id for each in reader.page()] == ["6"]
    for each in feeds:
        each.close()


def test_a_receivers_feed_tells_its_store(yard: Any) -> None:
    yard.deliver("1")
    with yard.receiving(register=False) as serving:
        feed = open_feed(serving.url, secret=SECRET)
        assert feed.end() == FeedEnd(yard.inbox.identity, 1)
        reader = FeedReader(feed, Position(500, "another"))
        assert [each.job_id for each in reader.page()] == ["1"]
        feed.close()

"""The feed, read from the store and from the receiver alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import AuthenticationError, ConfigurationError, NotSentError
from classifaily_connectors.webhooks import Feed, open_feed
from classifaily_connectors.webhooks.secrets import feed_token
from classifaily_connectors.webhooks.telling import LIMIT

from .conftest import SECRET, Yard

if TYPE_CHECKING:
    from classifaily_connectors.store import Delivery, Inbox

one_store = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture(params=["store", "receiver"])
def feed(request: pytest.FixtureRequest, yard: Yard) -> Iterator[Feed]:
    with ExitStack() as stack:
        place = yard.store if request.param == "store" else stack.enter_context(yard.receiving(register=False)).url
        yield stack.enter_context(closing(open_feed(place, secret=SECRET)))


def names(deliveries: list[Delivery]) -> list[tuple[str, str, str]]:
    return [(each.source, each.event, each.job_id) for each in deliveries]


@one_store
def test_store_and_receiver_tell_the_same(yard: Yard, feed: Feed) -> None:
    assert (feed.head(), feed.after(0), feed.find("default", ["1"])) == (0, [], {})
    yard.deliver("1", "2", "3")
    yard.deliver("2", event="batch.completed")
    assert names(feed.after(0)) == [
        ("default", "job.completed", "1"),
        ("default", "job.completed", "2"),
        ("default", "job.completed", "3"),
        ("default", "batch.completed", "2"),
    ]
    assert [each.seq for each in feed.after(0)] == [1, 2, 3, 4]
    assert [each.job_id for each in feed.after(2)] == ["3", "2"]
    assert [each.job_id for each in feed.after(0, limit=1)] == ["1"]
    assert [each.state for each in feed.after(3, source="default")] == ["ok"]
    assert feed.head() == 4
    found = feed.find("default", [*map(str, range(400)), "a b&c=d"])
    assert {id: each.event for id, each in found.items()} == {
        "1": "job.completed",
        "2": "batch.completed",
        "3": "job.completed",
    }


@one_store
def test_a_redriven_delivery_comes_again_with_its_count(yard: Yard, feed: Feed) -> None:
    yard.deliver("1", "2")
    again = yard.inbox.redrive(1)
    assert [(each.seq, each.job_id, each.redriven) for each in feed.after(1)] == [(2, "2", 0), (again, "1", 1)]


@one_store
def test_long_feeds_come_in_pages(yard: Yard, feed: Feed) -> None:
    yard.deliver(*map(str, range(LIMIT + 30)))
    first = feed.after(0)
    assert len(first) == LIMIT
    assert len(feed.after(first[-1].seq)) == 30


@one_store
def test_a_receiver_tells_only_those_who_have_its_secret_and_only_their_source(yard: Yard) -> None:
    yard.deliver("1")
    yard.deliver("2", source="staging")
    with yard.receiving(register=False) as serving:
        for wrong in {"secret": "another-secret-of-some-length"}, {"secret": SECRET, "source": "staging"}:
            with closing(open_feed(serving.url, **wrong)) as stranger, pytest.raises(AuthenticationError):
                stranger.head()
        with closing(open_feed(serving.url, secret=SECRET)) as ours:
            assert names(ours.after(0)) == [("default", "job.completed", "1")]
            assert ours.after(0, source="staging") == []
            assert ours.find("staging", ["2"]) == {}
            assert feed_token(SECRET) not in repr(ours)
            assert SECRET not in repr(ours)
    with closing(open_feed(serving.url, secret=SECRET)) as alone, pytest.raises(NotSentError):
        alone.head()


@one_store
def test_an_address_or_a_secret_that_cannot_work_is_refused(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("http://example.com/classifaily/webhooks", "ftp://x", "mysql://x/y"):
        with pytest.raises(ConfigurationError):
            open_feed(place, secret=SECRET)
    with pytest.raises(ConfigurationError, match="CLASSIFAILY_WEBHOOK_SECRET"):
        open_feed("https://example.com/classifaily/webhooks")
    with yard.receiving(register=False) as serving:
        monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", SECRET)
        with closing(open_feed(serving.url)) as feed:
            assert feed.head() == 0


def test_a_forwarder_that_dies_between_acting_and_marking_acts_again(yard: Yard) -> None:
    """At least once: the mark is set after the act, and reading consumes nothing."""
    yard.deliver("1", "2", "3")
    acted: list[str] = []

    def forward(inbox: Inbox, *, dies_at: str | None = None) -> None:
        for each in inbox.after(inbox.mark("sink")):
            acted.append(each.job_id)
            if each.job_id == dies_at:
                return
            inbox.set_mark("sink", each.seq)

    forward(yard.inbox, dies_at="2")
    forward(yard.inbox)
    assert acted == ["1", "2", "2", "3"]
    assert yard.inbox.mark("another") == 0


@one_store
def test_many_threads_share_a_feed(yard: Yard, feed: Feed) -> None:
    yard.deliver(*map(str, range(50)))
    heads: list[int] = []
    threads = [threading.Thread(target=lambda: heads.append(len(feed.after(0)) + feed.head())) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert heads == [100] * 8

"""The feed: what has come, told to those who wait on other machines and have no key to the database.

The law of this file: it tells ids and states, never a body, and only of the source whose token was shown; asking
consumes nothing. A question that has no answer yet is held until there is one, by one look at the store for all.

    GET …/feed?after=N&wait=20&limit=500    what has a higher number than N, at the latest after `wait` seconds
    GET …/feed?job_id=A&job_id=B            the newest delivery that ended each of those jobs, at once
    200 {"store": its identity, "head": the newest number of all,
         "deliveries": [{seq, source, event, job_id, state, received_at, redriven}]}
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

from classifaily_connectors.errors import InvalidRequestError
from classifaily_connectors.webhooks.secrets import feed_token

if TYPE_CHECKING:
    from pydantic import SecretStr

    from classifaily_connectors.store.delivery import Delivery, FeedEnd
    from classifaily_connectors.store.inbox import Inbox

T = TypeVar("T")

LIMIT = 500
"""Deliveries in one answer, and job ids in one question."""
LONGEST_WAIT = 30.0
_LOOK = 0.25
"""Seconds between two looks at the store while somebody waits: other receivers write to it too."""
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,6})?")
_FIELDS = ("seq", "source", "event", "job_id", "state", "received_at", "redriven")


def may_ask(authorization: bytes, secrets: Iterable[SecretStr]) -> bool:
    """Whether the Authorization header shows the token of one of the secrets."""
    scheme, _, token = authorization.strip().partition(b" ")
    shown = token.strip() if scheme.lower() == b"bearer" else b""
    matches = [hmac.compare_digest(feed_token(each).encode(), shown) for each in secrets]
    return any(matches)


class Telling:
    """Answers from the inbox that `open` gives, on one event loop."""

    def __init__(self, open: Callable[[], Inbox]) -> None:
        self._open = open
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="classifaily-feed")
        self._listening: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._stopped = False

    async def head(self) -> int:
        """The newest number. Raises what the database raises."""
        return await self._ask(lambda inbox: inbox.head())

    async def answer(self, source: str, query: bytes) -> dict[str, Any]:
        """The answer to a question about `source`.

        Raises InvalidRequestError when the question makes no sense, and what the database raises.
        """
        asked = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        after, limit = int(_number(asked, "after", 0)), int(_number(asked, "limit", LIMIT))
        wait = min(float(_number(asked, "wait", 0)), LONGEST_WAIT)
        if job_ids := asked.get("job_id"):
            return _told(*await self._ask(partial(_find, source, job_ids[:LIMIT])))
        look = partial(_after, source, after, min(limit, LIMIT))
        until = asyncio.get_running_loop().time() + wait
        while True:
            news = self._news()
            try:
                end, deliveries = await self._ask(look)
                patience = until - asyncio.get_running_loop().time()
                if deliveries or patience <= 0 or self._stopped:
                    return _told(end, deliveries)
                self._look_after(end.head)
                await asyncio.wait([news], timeout=patience)
            finally:
                self._listening.discard(news)

    def wake(self) -> None:
        """Something new has come: let everyone who waits look again."""
        for each in self._listening:
            if not each.done():
                each.set_result(None)

    def stop(self) -> None:
        """Let everyone have the answer there is."""
        self._stopped = True
        self.wake()

    def _news(self) -> asyncio.Future[None]:
        # Made before the look at the store, so that what comes during it is not slept through.
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening.add(news)
        return news

    def _look_after(self, head: int) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(head))

    async def _look(self, head: int) -> None:
        try:
            while self._listening:
                await asyncio.sleep(_LOOK)
                newest = await self.head()
                if newest != head:
                    head = newest
                    self.wake()
        except Exception:  # noqa: BLE001  # the store is down, which those who wait shall find out for themselves
            self.wake()
        finally:
            self._looking = None

    async def _ask(self, question: Callable[[Inbox], T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: question(self._open()))


def _after(source: str, after: int, limit: int, inbox: Inbox) -> tuple[FeedEnd, list[Delivery]]:
    return inbox.end(), inbox.after(after, source=source, limit=limit)


def _find(source: str, job_ids: list[str], inbox: Inbox) -> tuple[FeedEnd, list[Delivery]]:
    return inbox.end(), list(inbox.find(source, job_ids).values())


def _told(end: FeedEnd, deliveries: list[Delivery]) -> dict[str, Any]:
    told = [{name: getattr(each, name) for name in _FIELDS} for each in deliveries]
    return {"store": end.store, "head": end.head, "deliveries": told}


def _number(asked: dict[str, list[str]], name: str, default: int) -> str:
    word = asked.get(name, [str(default)])[-1]
    if not _NUMBER.fullmatch(word) or (name != "wait" and not word.isdecimal()):
        raise InvalidRequestError(f"{name} must be a whole number, or seconds")
    return word

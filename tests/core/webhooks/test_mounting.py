"""The receiver as an app that others mount, call and feed with anything."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from classifaily_connectors.store.lanes import TaskLane
from classifaily_connectors.webhooks import sign
from classifaily_connectors.webhooks.receiver import PATH, Receiver

SECRET = "whsec-of-the-tests"
EVENT = b'{"event":"job.completed","id":"84"}'


async def call(app: Any, path: str, body: bytes = EVENT, *, method: str = "POST", **scope: Any) -> int:
    """Calls an ASGI app by hand, as a server would."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    headers = [(b"x-classifaily-signature", sign(body, SECRET).encode())]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    full = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", **scope}
    await app(full, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("path", "root"),
    [
        (PATH, ""),
        (f"{PATH}/", ""),
        ("/api/classifaily/webhooks", "/api"),
        (PATH, "/api"),
        (PATH, PATH),
        ("/", ""),
        ("", PATH),
        ("/hooks", "/hooks"),
        ("/webhooks", "/classifaily"),
        ("/api/classifaily/webhooks", "/api/classifaily"),
    ],
)
def test_it_may_be_mounted_anywhere(path: str, root: str, tmp_path: Path) -> None:
    receiver = Receiver(f"sqlite:///{tmp_path}/inbox.db", SECRET)
    assert asyncio.run(call(receiver, path, root_path=root)) == 204
    source = path.rstrip("/") + "/default"
    assert asyncio.run(call(receiver, source, root_path=root)) == 204
    receiver.close()


def test_under_a_framework_without_a_lifespan(tmp_path: Path) -> None:
    receiver = Receiver(f"sqlite:///{tmp_path}/inbox.db", {"default": SECRET, "staging": SECRET})
    # At a part of the path: to the whole of it a framework answers with a redirect to the same with a slash.
    app = Starlette(routes=[Mount("/inner", app=Starlette(routes=[Mount("/classifaily", app=receiver)]))])
    assert asyncio.run(call(app, f"/inner{PATH}")) == 204
    assert asyncio.run(call(app, f"/inner{PATH}/staging")) == 204
    assert asyncio.run(call(app, f"/inner{PATH}/-/health", method="GET")) == 200
    assert [each.source for each in receiver.open().after(0)] == ["default", "staging"]
    receiver.close()


def test_a_closed_receiver_may_be_used_again(tmp_path: Path) -> None:
    receiver = Receiver(f"sqlite:///{tmp_path}/inbox.db", SECRET)

    async def again_and_again() -> list[int]:
        statuses: list[int] = []
        for _ in range(3):
            statuses.append(await call(receiver, PATH))
            receiver.close()
            receiver.close()
        return statuses

    assert asyncio.run(again_and_again()) == [204] * 3
    assert [each.repeats for each in receiver.open().after(0)] == [2]
    receiver.close()


def test_the_lifespan_of_a_server(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def live(receiver: Receiver) -> list[str]:
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await receiver({"type": "lifespan"}, receive, send)
        return sent

    good, bad = (Receiver(f"sqlite:///{tmp_path}/{place}", SECRET) for place in ("inbox.db", "file/inbox.db"))
    assert asyncio.run(live(good)) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert asyncio.run(live(bad)) == ["lifespan.startup.failed"]


def test_importing_the_receiver_loads_no_server_and_no_database() -> None:
    code = "import sys, classifaily_connectors.webhooks.receiver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"sqlalchemy", "uvicorn", "starlette"} & set(done.stdout.split()) == set()


def test_a_store_that_cannot_be_opened_yet_is_tried_again(tmp_path: Path) -> None:
    """A mounted receiver starts before its database."""
    (tmp_path / "folder").write_text("in the way")
    url = f"sqlite:///{tmp_path}/folder/inbox.db"
    receiver = Receiver(url, SECRET)
    assert asyncio.run(call(receiver, PATH)) == 503
    (tmp_path / "folder").unlink()
    assert asyncio.run(call(receiver, PATH)) == 204
    receiver.close()


@settings(max_examples=300)
@given(path=st.text(), root=st.text(max_size=5), body=st.binary(max_size=40), method=st.sampled_from(["GET", "POST"]))
def test_whatever_arrives_has_an_answer(path: str, root: str, body: bytes, method: str) -> None:
    class Memory:
        def lane(self) -> TaskLane:
            return TaskLane(self.put, lambda: None)

        async def put(self, arrivals: list[Any]) -> list[Any]:
            return ["new"] * len(arrivals)

        def head(self) -> int:
            return 0

    receiver = Receiver(Memory(), SECRET)  # type: ignore[arg-type]
    assert asyncio.run(call(receiver, f"/{path}", body, method=method, root_path=root)) in (200, 204, 401, 404, 405)

"""Faults: what the client sees, and what was paid for although it saw nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.sandbox import Fault


def test_a_reset_after_work_is_paid_for(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="reset", path="/classify"))
    with pytest.raises(httpx.ReadError):
        api.classify()
    assert api.bill().charged == 1
    assert api.requests == [("POST", "/classify", None)]
    assert api.classify().status_code == 200


def test_a_reset_before_work_is_free(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="reset", after_work=False))
    with pytest.raises(httpx.ReadError):
        api.classify()
    assert api.bill().charged == 0


def test_a_reset_is_a_real_rst(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="reset"))
    body = json.dumps({"input": "x"})
    head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(api.root_url).port or 0)) as connection:
        connection.sendall((head + body).encode())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_cut_answer_arrives_in_part(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="cut"))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        api.classify()
    assert api.bill().charged == 1


@pytest.mark.parametrize(("after_work", "charged"), [(None, 1), (False, 0)])
def test_a_delay_outlives_the_clients_patience(
    after_work: bool | None, charged: int, start: Callable[..., Any]
) -> None:
    api = start()
    api.inject(Fault(kind="delay", seconds=30, after_work=after_work))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{api.base_url}/classify",
            json={"input": "x"},
            headers={"Authorization": f"Bearer {api.key}"},
            timeout=0.2,
        )
    assert api.bill().charged == charged


def test_a_short_delay_still_answers(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="delay", seconds=0.1))
    api.inject(Fault(kind="delay", seconds=0.1, after_work=False))
    for _ in range(2):
        began = time.monotonic()
        assert api.classify().status_code == 200
        assert time.monotonic() - began >= 0.1
    assert api.bill().charged == 2
    assert [record.status for record in api.requests] == [200, 200]


@pytest.mark.parametrize("after_work", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "type"), [("500", 500, "json"), ("html_502", 502, "html"), ("429", 429, "json")]
)
def test_error_answers(*, kind: Any, status: int, type: str, after_work: bool, start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind=kind, after_work=after_work, retry_after=7))
    answer = api.classify()
    assert answer.status_code == status
    assert type in answer.headers["content-type"]
    assert answer.headers.get("retry-after") == ("7" if kind == "429" else None)
    assert api.bill().charged == after_work


def test_any_answer_can_be_given(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="answer", status=200, body="<oops", after_work=True))
    answer = api.classify()
    assert (answer.status_code, answer.text) == (200, "<oops")
    assert api.bill().charged == 1


@pytest.mark.parametrize(("size", "rows"), [(-1, 2), (-2, 1), (1, 4)])
def test_a_batch_of_the_wrong_size(size: int, rows: int, start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="wrong_size_batch", size=size))
    assert len(api.batch("a", "b", "c").json()["results"]) == rows
    assert api.bill().charged == 3


def test_a_fault_meets_only_what_it_is_for(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="500", method="POST", path="/batch", contains="ünlucky", times=None))
    assert api.classify("ünlucky").status_code == 200
    assert api.batch("lucky").status_code == 200
    assert api.get("/jobs").status_code == 200
    assert api.batch("lucky", "so ünlucky!").status_code == 500
    assert api.batch("ünlucky").status_code == 500
    api.clear_faults()
    assert api.batch("ünlucky").status_code == 200


def test_nth_and_times_count_matching_requests(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="500", path="/classify", nth=2, times=2))
    api.inject(Fault(kind="429", path="/classify", nth=5))
    api.get("/usage")
    assert [api.classify().status_code for _ in range(6)] == [200, 500, 500, 200, 429, 200]


def test_a_path_covers_what_lies_below_it(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="500", path="/jobs", times=None))
    assert api.get("/jobs/1").status_code == api.get("/jobs").status_code == 500
    assert api.get("/usage").status_code == 200


def test_a_refused_request_is_not_paid_for_even_if_its_answer_is_lost(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="reset"))
    with pytest.raises(httpx.ReadError):
        api.classify("")
    assert api.bill().charged == 0


def test_nonsense_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="fault kind must be one of delay, reset"):
        Fault(kind="explode")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="colour"):
        Fault.read({"kind": "reset", "colour": "red"})

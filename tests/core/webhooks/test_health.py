"""What the receiver says of itself: whether its store takes deliveries, and why it refused what it refused."""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors.webhooks import receiver as receiving
from classifaily_connectors.webhooks import refusals, sign
from classifaily_connectors.webhooks.health import Health, ask_health, health_address
from classifaily_connectors.webhooks.receiver import PATH
from classifaily_connectors.webhooks.signature import Keys

if TYPE_CHECKING:
    from conftest import Station

SECRET, OTHER = "whsec-of-the-tests", "whsec-of-another-source"
BODY = b'{"event":"job.completed","id":"84","result":{"label":"a\\/b","confidence":0.9}}'


def health(station: Station) -> Any:
    answer = station.ask("GET", f"{PATH}/-/health")
    return {**answer.json, "http": answer.status}


def test_it_tells_of_the_last_commit_and_of_its_readers(station: Station) -> None:
    before = health(station)
    assert (before["status"], before["last_commit"], before["refused"]) == ("ok", None, {})
    began = time.time()
    station.deliver()
    station.inbox.set_mark("prefect", 0)
    after = health(station)
    assert began - 1 <= after["last_commit"] <= time.time() + 1
    assert after["readers"] == {"prefect": 1}
    assert station.counted('reader_lag{consumer="prefect"}') == 1
    [line] = [
        each
        for each in station.ask("GET", f"{PATH}/-/metrics").body.decode().splitlines()
        if each.startswith("classifaily_webhook_last_commit_timestamp_seconds ")
    ]
    assert float(line.split()[-1]) == after["last_commit"]


def test_it_tells_why_deliveries_were_refused(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    assert station.ask("POST", PATH, BODY).status == 401
    assert station.deliver(secret=OTHER).status == 401
    assert station.deliver(path=f"{PATH}/production").status == 404
    told = health(station)
    assert told["refused"] == {"signature": 2, "source": 1}
    assert told["unsigned"] == {"missing": 1, "other": 1}
    assert told["last_refusal"]["reason"] == "source"
    assert "known are default, staging" in caplog.text
    assert "staging" not in str(told)
    for words in (
        "carries no X-ClassifAIly-Signature",
        "another secret than ours",
        "no secret is known for the source",
    ):
        assert words in caplog.text
    assert "production" not in caplog.text
    assert station.counted('unsigned_total{cause="missing"}') == 1


def test_the_log_grows_by_a_few_lines_however_many_are_refused(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        station.ask("POST", PATH, BODY, {"X-ClassifAIly-Signature": "sha256=00"})
    assert len([each for each in caplog.records if "refused" in each.getMessage()]) == refusals._FIRST
    assert health(station)["refused"] == {"signature": 30}


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "JSON written anew": lambda body: json.dumps(json.loads(body), indent=1).encode(),
    "base64": base64.b64encode,
    "compressed": gzip.compress,
    "blanks": lambda body: body + b"\r\n",
    "wrapped in an event": lambda body: json.dumps({"body": body.decode(), "isBase64Encoded": False}).encode(),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_body_that_a_proxy_changed_is_told_from_another_secret(
    how: str, station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    signature = {"X-ClassifAIly-Signature": sign(BODY, SECRET)}
    assert station.ask("POST", PATH, CHANGES[how](BODY), signature).status == 401
    assert "changed on the way" in caplog.text
    assert health(station)["unsigned"] == {"changed": 1}
    assert station.inbox.after(0) == []


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b"{}", b'{"body":1}', b"x" * 2**21])
def test_finding_out_never_fails(body: bytes) -> None:
    assert refusals.changed(Keys(SECRET), body, [b"sha256=00"]) == ""


def test_a_store_that_takes_nothing_is_no_good_health(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading may work as ever: what counts is the last commit, and without one an attempt."""
    assert health(station)["http"] == 200
    with sqlite3.connect(tmp_path / "inbox.db") as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON classifaily_delivery BEGIN SELECT RAISE(ABORT, 'no'); END")
    assert station.deliver().status == 503
    told = health(station)
    assert told["http"] == 503
    assert told["status"].startswith("down")
    with sqlite3.connect(tmp_path / "inbox.db") as other:
        other.execute("DROP TRIGGER no")
    # A balancer sends nothing to what is ill: so after a while it is tried whether the store can be written to.
    monkeypatch.setattr(receiving, "_DOUBT", 0.0)
    assert health(station)["http"] == 200
    with sqlite3.connect(tmp_path / "inbox.db") as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON classifaily_mark BEGIN SELECT RAISE(ABORT, 'no'); END")
    assert health(station)["http"] == 503


def test_a_file_of_secrets_that_was_spoilt_is_told(open_station: Callable[..., Station], tmp_path: Path) -> None:
    from classifaily_connectors.webhooks.secrets import Secrets

    file = tmp_path / "secrets"
    file.write_text(SECRET)
    station = open_station(Secrets({}, file=file))
    assert health(station)["secrets"] == "ok"
    file.write_text('{"default": null}')
    assert station.deliver().status == 204
    told = health(station)
    assert told["http"] == 200
    assert "cannot be read" in told["secrets"]


@pytest.mark.parametrize("end", ["", "/", "/staging"])
def test_the_health_page_is_found_from_the_address_that_is_registered(end: str, station: Station) -> None:
    url = station.serving.url + end
    assert health_address(url) == f"{station.serving.url}/-/health"
    found = ask_health(url)
    assert isinstance(found, Health)
    assert found.status == "ok"


def test_what_is_no_health_page_is_said_in_words(station: Station) -> None:
    assert ask_health(f"{station.serving.root_url}/elsewhere") == "HTTP 404"
    assert "refused" in str(ask_health("http://127.0.0.1:9/classifaily/webhooks"))


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced", "restored beside"])
def test_a_store_that_is_not_where_it_was_is_told(how: str, station: Station, tmp_path: Path) -> None:
    """What is acknowledged then would be kept in a file that nobody will ever read."""
    assert station.deliver().status == 204
    file = tmp_path / "inbox.db"
    if how == "moved":
        file.rename(tmp_path / "elsewhere.db")
    elif how == "deleted":
        file.unlink()
    else:
        (tmp_path / "new.db").write_bytes(file.read_bytes() if how == "restored beside" else b"")
        (tmp_path / "new.db").replace(file)
    body = b'{"event":"job.completed","id":"85"}'
    statuses = [station.deliver(body).status for _ in range(2)]
    told = health(station)
    if 204 in statuses:  # it found its way to what is there now
        from classifaily_connectors.store import Inbox

        assert statuses[-1] == 204
        with Inbox(station.url) as there:
            assert [each.job_id for each in there.after(0)][-1] == "85"
    else:
        assert statuses == [503, 503]
        assert told["http"] == 503
        assert str(tmp_path) not in str(told)  # the page is public

"""`classifaily webhooks serve`: says where it listens, stops when told, and says in a line why it cannot start."""

from __future__ import annotations

import http.client
import json
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from classifaily_connectors.store import Arrival, Inbox
from classifaily_connectors.webhooks import sign

if TYPE_CHECKING:
    from conftest import Command

pytestmark = pytest.mark.slow

SECRET = "whsec-of-the-command"
EVENT = b'{"event":"job.completed","id":"84"}'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(
    number: signal.Signals, line: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "secrets").write_text(json.dumps({"default": [SECRET], "staging": [SECRET]}))
    words = ["webhooks", "serve", "--port", "0", "--store", "inbox.db", "--secrets-file", "secrets"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*line, *words], env=environment, cwd=tmp_path, **pipes) as process:  # type: ignore[call-overload]
        told: dict[str, list[str]] = {}
        for each in process.stdout:
            name, value = each.split()
            told.setdefault(name, []).append(value)
            if name == "ready":
                break
        assert told["source"] == ["default", "staging"]
        [url] = told["ready"]
        assert told["health"] == [f"{url}/-/health"]
        place = urlsplit(url)
        assert place.path == "/classifaily/webhooks"
        connection = http.client.HTTPConnection(place.netloc, timeout=60)
        connection.request("POST", f"{place.path}/staging", EVENT, {"X-ClassifAIly-Signature": sign(EVENT, SECRET)})
        assert connection.getresponse().status == 204
        connection.close()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    inbox = Inbox(f"sqlite:///{tmp_path}/inbox.db")
    assert [(each.source, each.job_id) for each in inbox.after(0)] == [("staging", "84")]
    inbox.close()


def test_sighup_reads_the_secrets_again(line: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    """Whatever is said of the file: a reload must not look at its time, and ends nothing."""
    new = "whsec-of-the-next-year"
    file = tmp_path / "secret"
    file.write_text(SECRET)
    words = ["webhooks", "serve", "--uds", "hooks.sock", "--keep-alive", "75", "--store", "inbox.db"]
    env = {**environment, "CLASSIFAILY_WEBHOOK_SECRET_FILE": str(file)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*line, *words], env=env, cwd=tmp_path, **pipes) as process:  # type: ignore[call-overload]
        for each in process.stdout:
            if each.startswith("ready"):
                break
        before = file.stat()
        file.write_text(new[: before.st_size].ljust(before.st_size, "x"))
        process.send_signal(signal.SIGHUP)
        secret = file.read_text()
        status = 401
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(tmp_path / "hooks.sock"))
                head = (
                    f"POST /classifaily/webhooks HTTP/1.1\r\nHost: x\r\nX-ClassifAIly-Signature: {sign(EVENT, secret)}"
                )
                connection.sendall(f"{head}\r\nContent-Length: {len(EVENT)}\r\n\r\n".encode() + EVENT)
                status = int(connection.recv(1000).split()[1])
            if status == 204:
                break
            time.sleep(0.05)
        assert (status, process.poll()) == (204, None)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("words", [("--keep-alive", "0"), ("--uds", "x", "--fd", "3"), ("--fd", "99")])
def test_where_it_cannot_listen_is_said_in_a_line(words: tuple[str, ...], run: Command) -> None:
    env = {"CLASSIFAILY_WEBHOOK_SECRET": SECRET}
    ended = run("webhooks", "serve", "--store", "inbox.db", *words, env=env)
    assert ended.code == 2, ended.err
    assert len(ended.err.splitlines()) == 1


def test_without_a_secret_it_does_not_start(run: Command) -> None:
    ended = run("webhooks", "serve", "--store", "inbox.db")
    assert ended.code == 2
    assert "set CLASSIFAILY_WEBHOOK_SECRET" in ended.err
    ended = run("webhooks", "serve", "--store", "inbox.db", env={"CLASSIFAILY_WEBHOOK_SECRET": "too short"})
    assert ended.code == 2
    assert "shorter than 16 bytes" in ended.err
    assert "too short" not in ended.err


def test_without_a_store_it_does_not_start(run: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    secret: dict[str, str | None] = {"CLASSIFAILY_WEBHOOK_SECRET": SECRET}
    ended = run("webhooks", "serve", "--store", "file/inbox.db", env=secret)
    assert ended.code == 2
    assert "cannot be opened" in ended.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("webhooks", "serve", "--port", taken.getsockname()[1], "--store", "inbox.db", env=secret)
    assert ended.code == 1
    assert "cannot listen on 127.0.0.1" in ended.err


@pytest.mark.parametrize("words", [("list", "--json"), ("list",), ("list", "--state", "ok")])
def test_a_reader_that_closes_the_output_ends_a_command_quietly(
    words: tuple[str, ...], line: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/inbox.db"
    inbox = Inbox(store)
    now = time.time()
    inbox.put([Arrival("default", "job.completed", f"j{n}", str(n).encode(), now, None, b"{}") for n in range(3000)])
    inbox.close()
    piped = f"set -o pipefail; {shlex.join([*line, 'webhooks', *words, '--store', store])} | head -1"
    told = subprocess.run(["bash", "-c", piped], env=environment, capture_output=True, text=True, check=False)
    assert told.stderr == ""
    assert told.returncode == 141
    assert len(told.stdout.splitlines()) == 1

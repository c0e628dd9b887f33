"""Whatever is broken, a command ends with an exit code of ours and a line that shows no secret; never a traceback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from classifaily_connectors.cli import main

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

SECRET = "hunter2-and-more"
SIGNING = "whsec-0123456789abcdef0123456789abcdef"
EXAMPLES: dict[str, list[str]] = {
    "classify": ["{table}", "--text", "body", "--categories", "a,b", "--out", "{out}", "--ledger", "{store}"],
    "usage": [],
    "doctor": ["--ledger", "{store}"],
    "schemas plan": ["{schema}"],
    "schemas apply": ["{schema}", "--yes"],
    "schemas lint": ["{schema}"],
    "schemas codegen": ["{schema}"],
    "ledger stats": ["--ledger", "{store}"],
    "ledger show": ["--ledger", "{store}"],
    "ledger settle": ["--reconcile", "--ledger", "{store}"],
    "ledger prune": ["--older-than", "1d", "--ledger", "{store}"],
    "webhooks list": ["--store", "{store}"],
    "webhooks show": ["1", "--store", "{store}"],
    "webhooks redrive": ["1", "--store", "{store}"],
    "webhooks reread": ["--store", "{store}"],
    "webhooks prune": ["--older-than", "1d", "--store", "{store}"],
    "webhooks reconcile": ["--store", "{store}"],
    "webhooks rotate-secret": ["--url", "https://127.0.0.1:9/hook", "--secrets-file", "{secrets}"],
    "webhooks doctor": ["--url", "http://127.0.0.1:9/hook", "--store", "{store}"],
}
SERVING = {"sandbox", "webhooks serve"}
"""What runs until it is stopped: `test_webhooks_serve` and `test_other_commands` start them in broken places."""
CODES = {0, 1, 2, 3, 4, 5, 6, 10}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command, by the words that call it."""
    for name, command in group.commands.items():
        yield from commands(command, (*path, name)) if hasattr(command, "commands") else [" ".join((*path, name))]


def test_every_command_has_an_example() -> None:
    assert set(commands(typer.main.get_command(main))) == EXAMPLES.keys() | SERVING


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """What the examples name, all of it sound."""
    contents = {
        "table": ("tickets.csv", "body\nI was charged twice\n"),
        "schema": ("teams.yaml", "name: teams\ncategories: [billing, technical]\n"),
        "secrets": ("secrets.env", f"CLASSIFAILY_WEBHOOK_SECRET={SIGNING}\n"),
    }
    for name, text in contents.values():
        (tmp_path / name).write_text(text)
    named = {key: str(tmp_path / name) for key, (name, _) in contents.items()}
    return {**named, "out": str(tmp_path / "out.csv"), "store": f"sqlite:///{tmp_path}/store.db"}


def run(command: str, files: dict[str, str], base_url: str, key: str) -> int:
    words = [*command.split(), *(word.format(**files) for word in EXAMPLES[command])]
    environment = {
        "CLASSIFAILY_KEY": key, "CLASSIFAILY_BASE_URL": base_url, "CLASSIFAILY_TIMEOUT": "1",
        "CLASSIFAILY_WEBHOOK_SECRET": SIGNING, "COLUMNS": "200",
    }  # fmt: skip
    done = CliRunner().invoke(main, words, env=environment)
    assert isinstance(done.exception, SystemExit | None), (command, done.exception)
    assert done.exit_code in CODES, (command, done.exit_code)
    assert "Traceback" not in done.output
    for secret in (SECRET, key, SIGNING):
        assert secret not in done.output, command
    assert done.exit_code == 0 or done.output.strip(), command
    return done.exit_code


@pytest.mark.parametrize("command", EXAMPLES)
def test_no_api_at_the_address(command: str, files: dict[str, str]) -> None:
    for url in ("http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"):
        run(command, files, url, "cai_live_0123456789abcdef0123456789abcdef01234567")


@pytest.fixture(scope="module")
def answering() -> Iterator[Callable[[int, bytes], str]]:
    """A server that gives every request the same answer; its base URL."""
    answer = {"status": 200, "body": b""}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(answer["body"])))
            self.end_headers()
            self.wfile.write(answer["body"])

        do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815  # the names that the library looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def answers(status: int, body: bytes) -> str:
        answer.update(status=status, body=body)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield answers
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b""), (200, b"<html>hotel</html>"), (200, b"[1, null]"), (200, b'{"data": 7}'), (200, b"\xff\xfe"),
     (302, b""), (401, b""), (403, b"no"), (404, b"<html>"), (405, b""), (418, b"[]"), (429, b""), (502, b"<html>")],
)  # fmt: skip
def test_an_api_that_answers_nonsense(
    status: int, body: bytes, answering: Callable[[int, bytes], str], files: dict[str, str]
) -> None:  # fmt: skip
    for command in EXAMPLES:
        run(command, files, answering(status, body), "cai_live_0123456789abcdef0123456789abcdef01234567")


def noise(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 64)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    "store",
    [noise, folder, f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/none", f"mysql://me:{SECRET}@127.0.0.1/none",
     f"postgresql://127.0.0.1:9/none?user=me&password={SECRET}", "sqlite:////proc/store.db", "s3://bucket/store.db"],
)  # fmt: skip
def test_a_broken_store(
    store: str | Callable[[Path], None], files: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    if callable(store):
        store(tmp_path / "store.db")
    else:
        files["store"] = store
    for command, words in EXAMPLES.items():
        code = run(command, files, sandbox.base_url, sandbox.key)
        assert code != 0 or "{store}" not in words, command
    assert sandbox.bill().charged == 0


@pytest.mark.parametrize(
    "content", [b"\x00\xff\xfe\x01", b"", b"{", b"- [a\n- b: :\n", b"\xef\xbb\xbf", b"name: \xff\n"]
)
def test_broken_files(content: bytes, files: dict[str, str], sandbox: Sandbox) -> None:
    for name in ("table", "schema", "secrets"):
        Path(files[name]).write_bytes(content)
    for command, words in EXAMPLES.items():
        code = run(command, files, sandbox.base_url, sandbox.key)
        assert code != 0 or "{schema}" not in words, command


ABSENT = ["/proc/none/x.csv", "x" * 300 + ".csv", "gopher://host/x.csv", "~nobody-at-all/x.csv"]


@pytest.mark.parametrize("name", ["table", "schema", "secrets", "out"])
@pytest.mark.parametrize(
    "path", ["/proc/none/x.csv", "x" * 300 + ".csv", "gopher://host/x.csv", "~nobody-at-all/x.csv"]
)
def test_files_that_are_not_there(name: str, path: str, files: dict[str, str], sandbox: Sandbox) -> None:
    files[name] = path
    for command, words in EXAMPLES.items():
        if f"{{{name}}}" in words:
            assert run(command, files, sandbox.base_url, sandbox.key) != 0, command
    assert sandbox.bill().charged == 0

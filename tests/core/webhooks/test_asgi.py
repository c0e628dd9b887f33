"""The receiver as an application that any ASGI server imports."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from classifaily_connectors import ConfigurationError
from classifaily_connectors.store import Inbox
from classifaily_connectors.webhooks import asgi, sign
from classifaily_connectors.webhooks.receiver import PATH

SECRET = "whsec-of-the-tests"
EVENT = b'{"event":"job.completed","id":"84"}'


@pytest.fixture(autouse=True)
def anew() -> None:
    asgi.create_app.cache_clear()


def test_a_server_imports_it_and_the_environment_says_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/inbox.db"
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", url)
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET_FILE", str(tmp_path / "secret"))
    config = uvicorn.Config("classifaily_connectors.webhooks.asgi:app", log_config=None, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        connection = http.client.HTTPConnection(*listener.getsockname(), timeout=30)
        connection.request("POST", PATH, EVENT, {"X-ClassifAIly-Signature": sign(EVENT, SECRET)})
        assert connection.getresponse().status == 204
        connection.close()
        server.should_exit = True
        thread.join()
    with Inbox(url) as inbox:
        assert [each.job_id for each in inbox.after(0)] == ["84"]


def test_without_a_secret_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no webhook secret"):
        _ = asgi.app


def test_it_is_all_there_is() -> None:
    with pytest.raises(AttributeError):
        _ = asgi.nothing

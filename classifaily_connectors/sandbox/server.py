"""The sandbox as a server in a thread of this process.

The law of this file: `start` returns when the socket accepts, `close` returns when no thread is left.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from classifaily_connectors.errors import ConfigurationError

from .app import DEFAULT_KEY, Core, app_of
from .clock import Clock, SandboxClock
from .controls import Controls

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from .switches import Switches

_START_SECONDS = 10.0


class _Protocol(HttpToolsProtocol):
    """Hands its transport to the app, which alone can break a connection the hard way."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, "transport": transport}


class Sandbox(Controls):
    """A local ClassifAIly on a real socket; use it as a context manager, or `start` and `close` it.

    `plan` is that of `key`; `seed` fixes ids and secrets; `clock` is what quotas, jobs and history go by; `store` a
    SQLite file to remember in; `admin` opens `/__sandbox/*` to whoever reaches the port; `port` 0 takes a free one.
    Raises `ConfigurationError` for a plan there is not, a store that cannot be used, and a port that is taken.
    """

    def __init__(
        self,
        *,
        plan: str = "starter",
        key: str = DEFAULT_KEY,
        seed: int = 0,
        switches: Switches | None = None,
        clock: Clock | None = None,
        store: str | Path | None = None,
        admin: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.key = key
        self.clock: Any = clock or SandboxClock()
        self._host, self._port, self._admin = host, port, admin
        super().__init__(Core(keys={key: plan}, seed=seed, switches=switches, clock=self.clock, store=store))
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None

    @property
    def root_url(self) -> str:
        """The server's address, where `/__sandbox/bill` is."""
        return f"http://{self._host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The API's base URL."""
        only_long = self._core.service.switches.base_paths == "api_v1"
        return f"{self.root_url}{'/api/v1' if only_long else '/v1'}"

    def start(self) -> Self:
        """Serve; returns when the socket accepts. Raises ConfigurationError when it cannot listen there."""
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            app_of(self._core, admin=self._admin),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,  # the application tells the time by its own clock
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, args=([listener],), name="classifaily-sandbox", daemon=True)
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START_SECONDS / 0.005)):
            if server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.005)
        raise ConfigurationError(f"the sandbox did not start within {_START_SECONDS:.0f} s: try again")

    def close(self) -> None:
        """Stop serving and delivering, and close the store; harmless when called again."""
        self._core.closing.set()
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None
        self._core.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        problem = os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
    raise ConfigurationError(f"cannot listen on {host}:{port}: {problem}; choose another port, or 0 for a free one")

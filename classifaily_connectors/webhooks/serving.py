"""The receiver as a server of its own: on a port, a Unix socket, or a socket that systemd or a parent opened.

The law of this file: slow connections cannot keep the others out (see `deadlines`), and whoever stops it is waited for
until every delivery under way is kept and answered.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import uvicorn
except ImportError:
    raise ImportError("serving webhooks needs uvicorn: pip install 'classifaily-connectors[webhooks]'") from None

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.webhooks.deadlines import DeadlineProtocol
from classifaily_connectors.webhooks.receiver import PATH, Receiver

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

KEEP_ALIVE = 5.0
"""Seconds for which a connection without a request is kept."""
_GRACE = 15
"""Seconds a stop waits for requests under way: more than a commit may take."""
_START = 30.0
_BACKLOG = 2048
_FIRST_FD = 3
_MODE = 0o666
"""Of a Unix socket: the proxy has another user, and a delivery is believed for its signature alone."""
_TURN = 50e-6
"""Seconds for which a thread may keep the interpreter from another one that wants it."""


def devote_process() -> None:
    """Suit a process that does nothing else, once it serves; never call this in somebody else's."""
    # What is loaded by now stays: no collection needs to look through it while deliveries wait.
    gc.collect()
    gc.freeze()
    # A commit that has ended waits for its turn to say so: by default for up to a hundred deliveries' work.
    sys.setswitchinterval(_TURN)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, receiver: Receiver) -> None:
        super().__init__(config)
        self._receiver = receiver

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First of all, those who wait for news get their answer: the server waits for them."""
        self._receiver.stop()
        await super().shutdown(sockets)


class Serving:
    """A receiver on a real socket, in a thread of its own; use it as a context manager, or `start` and `close` it.

    `port` 0 takes a free one, and the host `::` listens on IPv4 too. `uds` is the path of a Unix socket instead, which
    replaces one that was left there; `fd` a socket that listens already. `keep_alive` is the seconds for which a
    connection without a request is kept: more than the proxy in front keeps it. Raises OSError when the port is taken,
    ConfigurationError when the store cannot be opened or `fd` is no socket that listens.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        uds: str | os.PathLike[str] | None = None,
        fd: int | None = None,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._receiver = receiver
        self._host, self._port = host, port
        self._uds, self._fd = Path(uds) if uds is not None else None, fd
        self._keep_alive = keep_alive
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def root_url(self) -> str:
        """The server's address; of a Unix socket, its path."""
        if self._uds is not None:
            return f"unix:{self._uds}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def url(self) -> str:
        """Where the deliveries of the default source go; those of another one go to `url/{source}`."""
        return f"{self.root_url}{':' if self._uds is not None else ''}{PATH}"

    def start(self) -> Self:
        """Serve; returns when the socket accepts."""
        self._receiver.open()
        listener = self._listen()
        options: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False}
        config = uvicorn.Config(
            self._receiver,  # pyright: ignore[reportArgumentType]  # an ASGI app by its signature
            http=DeadlineProtocol,
            ws="none",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=self._keep_alive,  # type: ignore[arg-type]  # handed on to the event loop as it is
            **options,
        )
        server = self._server = _Server(config, self._receiver)
        self._thread = threading.Thread(target=server.run, args=([listener],), name="classifaily-webhooks", daemon=True)
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START / 0.005)):
            if server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.005)
        raise RuntimeError("the receiver did not start")

    def _listen(self) -> socket.socket:
        if self._fd is not None:
            listener = _inherited(self._fd)
            if listener.family == socket.AF_UNIX:
                self._uds = Path(str(listener.getsockname()))
                return listener
            self._host, self._port = listener.getsockname()[:2]
            return listener
        if self._uds is not None:
            return _unix(self._uds)
        everything = self._host == "::" and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server(
            (self._host, self._port), family=family, backlog=_BACKLOG, dualstack_ipv6=everything
        )
        self._port = listener.getsockname()[1]
        return listener

    def close(self) -> None:
        """Stop accepting, wait for what is under way, close the store; harmless when called again."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None
            if self._uds is not None and self._fd is None:
                with contextlib.suppress(OSError):
                    self._uds.unlink()
        self._receiver.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def activated() -> int | None:
    """The socket that systemd handed over (LISTEN_FDS); None without one.

    Raises ConfigurationError when there are several.
    """
    if os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "0")
    if count not in ("0", "", "1"):
        raise ConfigurationError(f"LISTEN_FDS is {count!r}: the receiver takes one socket")
    return _FIRST_FD if count == "1" else None


def _inherited(fd: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        problem = error.strerror or "it is none"
    else:
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return listener
        listener.detach()  # somebody else's
        problem = "it does not listen"
    raise ConfigurationError(f"the descriptor {fd} is no socket to listen on: {problem}")


def _unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
                path.unlink()  # left by a process that was killed
        listener.bind(str(path))
        path.chmod(_MODE)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True

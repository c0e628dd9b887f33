"""The wire, watched from the other end: whom the client speaks to, over how many connections, and what it says."""

from __future__ import annotations

import asyncio
import gzip
import json
import socketserver
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, transport

if TYPE_CHECKING:
    from conftest import Caller, Canned

pytestmark = pytest.mark.timeout(60)

KEY = "cai_live_89abcdef0123456789abcdef0123456789abcdef"
TEXT = "I was charged twice for my subscription."
GOOD = {"id": "84", "status": "completed", "type": "text", "result": {"label": "billing", "confidence": 0.97}}
CALLS = 20


def classify(client: Any) -> Any:
    return client.classify(TEXT)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def eventually(holds: Callable[[], bool]) -> bool:
    return any(holds() or time.sleep(0.01) for _ in range(1000))


class Watched:
    """Gives every text back as its label after `pause` seconds, and counts connections and requests at work."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections = self.at_work = self.peak = 0
        self.pause = 0.0
        self.heard: list[str] = []
        """First line and headers of every request, proxied ones and CONNECT included."""
        watched = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with watched.lock:
                    watched.connections += 1

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with watched.lock:
                    watched.heard.append(f"{self.requestline}\n{self.headers}")
                    watched.at_work += 1
                    watched.peak = max(watched.peak, watched.at_work)
                over.wait(watched.pause)
                with watched.lock:
                    watched.at_work -= 1
                raw = json.dumps({"id": "1", "status": "completed", "result": {"label": asked["input"]}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.send_header("Set-Cookie", "session=follow-me")
                self.end_headers()
                self.wfile.write(raw)

            def do_CONNECT(self) -> None:
                with watched.lock:
                    watched.heard.append(f"{self.requestline}\n{self.headers}")
                self.send_error(502)

            def log_message(self, *_: Any) -> None:
                pass

        over = self.over = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.root = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.root}/v1"


@pytest.fixture
def watched() -> Iterator[Watched]:
    state = Watched()
    thread = threading.Thread(target=state.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.over.set()
    state.http.shutdown()
    thread.join()
    state.http.server_close()


@pytest.fixture(params=["sync", "async"])
def together(request: pytest.FixtureRequest) -> Callable[..., list[str | None]]:
    """Classifies all texts at once with one client."""

    def sync(url: str, texts: list[str], **settings: Any) -> list[str | None]:
        with ClassifailyClient(KEY, base_url=url, **settings) as client, ThreadPoolExecutor(len(texts)) as pool:
            return list(pool.map(lambda text: client.classify(text).label, texts))

    async def gathered(url: str, texts: list[str], **settings: Any) -> list[str | None]:
        async with AsyncClassifailyClient(KEY, base_url=url, **settings) as client:
            return [each.label for each in await asyncio.gather(*map(client.classify, texts))]

    return sync if request.param == "sync" else lambda *args, **settings: asyncio.run(gathered(*args, **settings))


# --- connections --------------------------------------------------------------------------------


def test_connections_are_reused(watched: Watched, caller: Caller) -> None:
    caller.settings["base_url"] = watched.url

    async def in_turn(client: Any) -> None:
        for _ in range(CALLS):
            await client.classify(TEXT)

    caller(in_turn if caller.kind == "async" else lambda client: [classify(client) for _ in range(CALLS)])
    assert len(watched.heard) == CALLS
    assert watched.connections == 1


def test_max_connections_is_respected(watched: Watched, together: Callable[..., Any]) -> None:
    watched.pause = 0.02
    texts = [f"text {place}" for place in range(CALLS)]
    assert together(watched.url, texts, max_connections=3) == texts
    assert watched.connections == watched.peak == 3


def test_no_connections_at_all_is_refused(caller: Caller) -> None:
    caller.settings["max_connections"] = 0
    with pytest.raises(cc.ConfigurationError, match="max_connections"):
        caller(classify)


def test_waiting_for_a_connection_is_not_the_servers_delay(
    watched: Watched, together: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten calls over one connection wait longer than any of them may take; none of them is lost."""
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(transport, "WRITE_TIMEOUT", 0.1)
    watched.pause = 0.25
    texts = [f"text {place}" for place in range(10)]
    assert together(watched.url, texts, max_connections=1, timeout=1.5) == texts


def test_threads_share_a_client(watched: Watched) -> None:
    texts = [f"text {place}" for place in range(400)]
    with ClassifailyClient(KEY, base_url=watched.url) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: client.classify(text).label, texts)) == texts
    assert watched.connections <= 8


def test_event_loops_share_a_client(watched: Watched) -> None:
    """Each `asyncio.run` gets connections of its own: those of a loop that has ended cannot be used.

    They end with their loop, so a client that serves many loops keeps no more descriptors than one that serves one.
    """
    client = AsyncClassifailyClient(KEY, base_url=watched.url)

    async def labels(*texts: str) -> list[str | None]:
        return [each.label for each in await asyncio.gather(*map(client.classify, texts))]

    before = descriptors()
    for place in range(10):
        texts = [f"{place} {each}" for each in range(4)]
        assert asyncio.run(labels(*texts)) == texts
    assert watched.connections == 40
    assert eventually(lambda: descriptors() <= before), "the server's ends close in their own time, ours did not"
    assert len(client._transport._loops) <= 1


def test_loops_in_threads_share_a_client(watched: Watched) -> None:
    client = AsyncClassifailyClient(KEY, base_url=watched.url)

    async def labels(name: int) -> bool:
        texts = [f"{name}-{place}" for place in range(20)]
        return [(await client.classify(text)).label for text in texts] == texts

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda name: asyncio.run(labels(name)), range(4)))


def test_a_closed_client_refuses(canned: Canned) -> None:
    canned.say(200, GOOD)
    client = ClassifailyClient(KEY, base_url=canned.url)
    classify(client)
    client.close()
    client.close()
    with pytest.raises(cc.ConfigurationError, match="closed"):
        classify(client)

    async def closed() -> None:
        client = AsyncClassifailyClient(KEY, base_url=canned.url)
        await classify(client)
        await client.close()
        await client.close()
        with pytest.raises(cc.ConfigurationError, match="closed"):
            await classify(client)

    asyncio.run(closed())
    assert len(canned.asked) == 2


def test_closing_waits_for_nobody_and_leaks_nothing(watched: Watched) -> None:
    """A call in flight ends well; its connection is closed afterwards."""
    watched.pause = 0.2
    client = ClassifailyClient(KEY, base_url=watched.url)
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(classify, client)
        assert eventually(lambda: watched.at_work == 1)
        client.close()
        assert flying.result().label == TEXT
    lanes = client._transport._lanes
    assert lanes is not None
    assert lanes._free == []


def test_one_ssl_context_per_process(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[ssl.SSLContext] = []
    real = ssl.create_default_context

    def counting(*args: Any, **options: Any) -> ssl.SSLContext:
        built.append(real(*args, **options))
        return built[-1]

    monkeypatch.setattr(ssl, "create_default_context", counting)
    transport._ssl_context.cache_clear()
    canned.say(200, GOOD)
    for _ in range(2):
        with ClassifailyClient(KEY, base_url=canned.url) as client, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: classify(client), range(8)))

        async def gathered() -> None:
            async with AsyncClassifailyClient(KEY, base_url=canned.url) as client:
                await asyncio.gather(*(classify(client) for _ in range(8)))

        asyncio.run(gathered())
    assert len(built) == 1


# --- what is said -------------------------------------------------------------------------------


@pytest.mark.parametrize("application", [None, "airflow/3.3.2"])
def test_the_client_names_itself(application: str | None, canned: Canned, caller: Caller) -> None:
    canned.say(200, GOOD)
    caller.settings["application"] = application
    caller(classify)
    agent = canned.asked[0].headers["user-agent"]
    assert agent.startswith(f"classifaily-connectors/{cc.__version__} ")
    assert (application or "(") in agent
    assert "httpx" not in agent


def test_the_key_travels_in_one_header_only(canned: Canned, caller: Caller) -> None:
    canned.say(200, GOOD)
    caller(classify)
    (asked,) = canned.asked
    key = caller.settings["api_key"]
    assert asked.headers["authorization"] == f"Bearer {key}"
    others = {name: value for name, value in asked.headers.items() if name != "authorization"}
    assert key not in f"{asked.path}{others}{asked.body!r}"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_answers_are_read(coding: str, canned: Canned, caller: Caller) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[coding](json.dumps(GOOD).encode())
    canned.say(200, packed, {"Content-Encoding": coding})
    assert caller(classify).label == "billing"
    assert coding in canned.asked[0].headers["accept-encoding"]


def test_cookies_are_not_kept(watched: Watched) -> None:
    """The API sets none; a gateway's would tie later requests to earlier ones."""
    with ClassifailyClient(KEY, base_url=watched.url) as client:
        classify(client)
        classify(client)
    assert "cookie" not in watched.heard[1].lower()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", [classify, lambda client: client.usage()], ids=["POST", "GET"])
def test_redirects_are_never_followed(status: int, call: Any, canned: Canned, watched: Watched, caller: Caller) -> None:
    """The key belongs to one host: whoever redirects us does not get to name another."""
    canned.say(status, b"", {"Location": f"{watched.url}/classify"})
    with pytest.raises(cc.ConfigurationError, match="redirects"):
        caller(call)
    assert len(canned.asked) == 1
    assert watched.connections == 0


# --- proxies ------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_used(
    variable: str, environment: pytest.MonkeyPatch, canned: Canned, watched: Watched, caller: Caller
) -> None:
    environment.setenv(variable, watched.root)
    assert caller(classify).label == TEXT
    assert watched.heard[0].startswith(f"POST {canned.url}/classify HTTP/1.1\n")
    assert canned.asked == []


def test_a_proxy_may_be_named_without_a_scheme(
    environment: pytest.MonkeyPatch, canned: Canned, watched: Watched, caller: Caller
) -> None:
    environment.setenv("HTTP_PROXY", watched.root.removeprefix("http://"))
    assert caller(classify).label == TEXT
    assert canned.asked == []


@pytest.mark.parametrize("listed", ["*", "127.0.0.1", "example.com, 127.0.0.1", "127.0.0.1:{port}"])
def test_no_proxy_is_used_where_none_is_wanted(
    listed: str, environment: pytest.MonkeyPatch, canned: Canned, watched: Watched, caller: Caller
) -> None:
    port = canned.url.rpartition(":")[2].removesuffix("/v1")
    environment.setenv("ALL_PROXY", watched.root)
    environment.setenv("HTTP_PROXY", watched.root)
    environment.setenv("NO_PROXY", listed.format(port=port))
    canned.say(200, GOOD)
    assert caller(classify).label == "billing"
    assert watched.connections == 0


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_never_sees_the_key(
    variable: str, environment: pytest.MonkeyPatch, watched: Watched, caller: Caller
) -> None:
    """https goes through a tunnel; a proxy that opens none leaves the request unsent."""
    environment.setenv(variable, watched.root)
    caller.settings["base_url"] = "https://api.classifaily.test/v1"
    with pytest.raises(cc.NotSentError):
        caller(classify)
    assert len(watched.heard) == 3, "what was surely not sent is tried again"
    assert watched.heard[0].startswith("CONNECT api.classifaily.test:443 HTTP/1.1\n")
    assert caller.settings["api_key"] not in "".join(watched.heard)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "407 Proxy Authentication Required",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403 Forbidden"),
        (b"HTTP/1.1 200 Connection established\r\n\r\n", "hung up before there was a connection|SSL|EOF"),
        (b"HTTP/1.1 200 Conn", "broke off, or what it sent is no HTTP"),
        (b"nonsense", "broke off, or what it sent is no HTTP"),
        (b"", "broke off, or what it sent is no HTTP|the connection broke"),
    ],
)
def test_what_breaks_off_before_the_tunnel_stands_was_never_sent(
    answer: bytes, said: str, environment: pytest.MonkeyPatch, caller: Caller
) -> None:
    """Nothing was paid, so it is tried again; the proxy is named, its password is not."""
    heard: list[bytes] = []

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(4096))
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        environment.setenv("HTTPS_PROXY", f"http://user:secret-word@{address}")
        caller.settings["base_url"] = "https://api.classifaily.test/v1"
        with pytest.raises(cc.NotSentError, match=said) as caught:
            caller(classify)
        server.shutdown()
    assert f"The proxy is http://{address}: check HTTPS_PROXY" in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert len(heard) == 3
    assert all(each.startswith(b"CONNECT ") for each in heard)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE"])
def test_certificates_that_are_not_there_name_the_variable(
    variable: str, environment: pytest.MonkeyPatch, tmp_path: Path, caller: Caller
) -> None:
    environment.delenv("SSL_CERT_DIR", raising=False)
    environment.setenv(variable, str(tmp_path / "none.pem"))
    transport._ssl_context.cache_clear()
    caller.settings["base_url"] = "https://127.0.0.1:9/v1"
    with pytest.raises(cc.ConfigurationError, match=f"{variable} cannot be used: No such file"):
        caller(classify)


def test_another_schemes_proxy_is_not_used(
    environment: pytest.MonkeyPatch, canned: Canned, watched: Watched, caller: Caller
) -> None:
    environment.setenv("HTTPS_PROXY", watched.root)
    canned.say(200, GOOD)
    assert caller(classify).label == "billing"
    assert watched.connections == 0


def test_connections_to_a_proxy_are_lanes_too(
    environment: pytest.MonkeyPatch, canned: Canned, watched: Watched, together: Callable[..., Any]
) -> None:
    environment.setenv("HTTP_PROXY", watched.root)
    watched.pause = 0.02
    texts = [f"text {place}" for place in range(CALLS)]
    assert together(canned.url, texts, max_connections=3) == texts
    assert watched.connections == watched.peak == 3


@pytest.mark.parametrize("address", ["ftp://user:secret-word@127.0.0.1", "http://user:secret-word@127.0.0.1:port"])
def test_a_proxy_that_cannot_work_is_a_setting_that_cannot_work(
    address: str, environment: pytest.MonkeyPatch, canned: Canned, caller: Caller
) -> None:
    environment.setenv("HTTP_PROXY", address)
    with pytest.raises(cc.ConfigurationError, match="HTTP_PROXY") as caught:
        caller(classify)
    assert "secret-word" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"
    assert canned.asked == []

"""The credentials block: Prefect's own standard suite, what it refuses, what it never shows."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import prefect
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import ValidationError

import prefect_classifaily
from classifaily_connectors import ConfigurationError
from prefect_classifaily import ClassifailyCredentials, aget_usage, classify, get_usage

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

BIN = Path(sys.executable).parent
HTTPX = ("httpx", "anyio", "exceptiongroup")


class TestStandards(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[ClassifailyCredentials]:
        return ClassifailyCredentials

    def test_has_a_valid_image(self, block: type[ClassifailyCredentials]) -> None:
        """Prefect's own test of this name fetches the logo over the internet; here, that Prefect can ask for it."""
        logo = urlsplit(str(block._logo_url))
        assert logo.scheme == "https"
        assert logo.path.endswith(".png")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "api_key"),
        ({"api_key": " "}, "no API key"),
        ({"api_key": "cai_live_12 34"}, "api_key holds a blank"),
        ({"api_key": "cai_live_1234", "base_url": "ftp://example.org"}, "base_url must look like"),
        ({"api_key": "cai_live_1234", "base_url": "http://example.org/v1"}, "base_url must be https"),
        ({"api_key": "cai_live_1234", "timeout_seconds": 0}, "timeout_seconds"),
        ({"apikey": "cai_live_1234"}, "api_key"),
    ],
)
def test_bad_settings_are_refused_by_name_without_the_key(
    settings: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError) as refused:
        ClassifailyCredentials(**settings)
    assert told in str(refused.value)
    assert "1234" not in str(refused.value)


def test_the_key_is_in_no_text(credentials: ClassifailyCredentials) -> None:
    key = credentials.api_key.get_secret_value()
    with credentials.get_client() as client:
        texts = [
            repr(credentials),
            str(credentials),
            credentials.model_dump_json(),
            repr(client),
            repr(vars(credentials)),
        ]
    assert not [text for text in texts if key in text]


def test_from_env(environment: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    block = ClassifailyCredentials.from_env()
    assert (block.api_key.get_secret_value(), block.base_url) == (environment.key, environment.base_url)
    monkeypatch.delenv("CLASSIFAILY_KEY")
    with pytest.raises(ConfigurationError, match="CLASSIFAILY_KEY"):
        ClassifailyCredentials.from_env()


def test_every_client_is_new_and_nothing_stays_on_the_block(credentials: ClassifailyCredentials) -> None:
    with credentials.get_client() as first, credentials.get_client() as second:
        assert first is not second
        copy = pickle.loads(pickle.dumps(credentials))  # as Dask, Ray and process pools do
    with copy.get_client() as client:
        assert client.usage().plan == "pro"

    async def used() -> str | None:
        async with copy.get_async_client() as client:
            return (await client.usage()).plan

    # Two event loops, one block: a client kept on it would belong to the first, closed one.
    assert [asyncio.run(used()), asyncio.run(used())] == ["pro", "pro"]


def test_requests_name_prefect() -> None:
    agents = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            agents.append(self.headers["User-Agent"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"usage": {}}')

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{listener.server_port}/v1"
        get_usage.fn(credentials=ClassifailyCredentials(api_key="cai_live_1234", base_url=url))
        thread.join()
    assert f"prefect/{prefect.__version__}" in agents[0]


def test_a_saved_block_is_loaded_by_name(server: Any, credentials: ClassifailyCredentials, sandbox: Sandbox) -> None:
    credentials.save("by-name")

    @flow
    def sync_flow() -> str | None:
        return classify("I was charged twice", categories=["billing", "technical"], credentials="by-name").label

    @flow
    async def async_flow() -> tuple[str | None, str | None]:
        # The first is a sync task beside a running event loop.
        return get_usage(credentials="by-name").plan, (await aget_usage(credentials="by-name")).plan

    assert sync_flow() == "billing"
    assert asyncio.run(async_flow()) == ("pro", "pro")
    assert asyncio.run(_fn_beside_a_loop()) == "pro"


async def _fn_beside_a_loop() -> str | None:
    return get_usage.fn(credentials="by-name").plan


def test_what_is_stored_of_a_block_holds_no_bare_key(server: Any, sandbox: Sandbox) -> None:
    key = "cai_live_0123456789abcdef0123456789abcdef01234567"
    ClassifailyCredentials(api_key=key, base_url=sandbox.base_url).save("stored")
    assert key not in server.stored_once("'stored'")

    async def read() -> Any:
        async with get_client() as client:
            return await client.read_block_document_by_name("stored", "classifaily-credentials", include_secrets=False)

    document = asyncio.run(read())
    assert key not in json.dumps(document.data)
    assert document.data["base_url"] == sandbox.base_url


@pytest.mark.parametrize("given", ["cai_live_0123456789", " cai_live_0123456789"])
def test_a_key_in_the_place_of_a_name_is_refused_and_not_shown(given: str) -> None:
    with pytest.raises(ConfigurationError, match="is an API key") as refused:
        get_usage.fn(credentials=given)
    assert "0123456789" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="is an API key"):
        asyncio.run(aget_usage.fn(credentials=given))


def test_anything_else_is_refused(server: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"credentials must be .* not dict"):
        get_usage.fn(credentials={"api_key": "cai_live_1234"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no-such-block"):
        get_usage.fn(credentials="no-such-block")


def test_the_collection_is_found_by_its_entry_point(server: Any) -> None:
    (entry,) = importlib.metadata.entry_points(group="prefect.collections", name="prefect_classifaily")
    assert entry.load() is prefect_classifaily
    assert prefect.plugins.load_prefect_collections()["prefect_classifaily"] is prefect_classifaily

    async def read() -> Any:
        async with get_client() as client:
            return await client.read_block_type_by_slug("classifaily-credentials")

    # The server loaded it at its start, before anything here was saved.
    assert asyncio.run(read()).name == "ClassifAIly Credentials"


def test_the_block_is_registered_by_the_command_line(server: Any) -> None:
    command = [BIN / "prefect", "block", "register", "-m", "prefect_classifaily"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Successfully registered 1 block" in done.stdout
    assert "ClassifAIly Credentials" in done.stdout


def test_the_import_loads_prefect_and_the_core_only() -> None:
    code = (
        "import sys, prefect.blocks.abstract, prefect.cache_policies, prefect.main\n"
        "before = set(sys.modules)\n"
        "import prefect_classifaily as home\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before if name not in sys.stdlib_module_names}\n"
        "assert all(hasattr(home, name) for name in home.__all__)\n"
        "print(*sorted(new - sys.stdlib_module_names))\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) <= {"classifaily_connectors", "prefect_classifaily", "prefect", *HTTPX}
    assert prefect_classifaily.__version__ == importlib.metadata.version("classifaily-connectors")

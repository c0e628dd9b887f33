"""A sandbox on a real socket, and a plain HTTP client that knows its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from classifaily_connectors.sandbox import Sandbox


class Api:
    """A sandbox and a client for it; attributes not found here are the sandbox's."""

    def __init__(self, sandbox: Sandbox, client: httpx.Client) -> None:
        self.sandbox, self.client = sandbox, client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sandbox, name)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.client.request(method, path, **options)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.client.get(path, params=query)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def classify(self, input: str = "I was charged twice", **options: Any) -> httpx.Response:
        return self.post("/classify", {"input": input, **options})

    def batch(self, *inputs: str, **options: Any) -> httpx.Response:
        return self.post(
            "/batch", {"items": [{"id": f"i{n}", "input": text} for n, text in enumerate(inputs)], **options}
        )

    def used(self) -> int:
        return self.get("/usage").json()["usage"]["requests"]


@pytest.fixture
def start() -> Iterator[Callable[..., Api]]:
    with ExitStack() as stack:

        def start(**options: Any) -> Api:
            sandbox = stack.enter_context(Sandbox(**options))
            headers = {"Authorization": f"Bearer {sandbox.key}"}
            return Api(sandbox, stack.enter_context(httpx.Client(base_url=sandbox.base_url, headers=headers)))

        yield start

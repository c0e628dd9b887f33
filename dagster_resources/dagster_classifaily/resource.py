"""The ClassifAIly resource: a key, an address, and the operations of the API for assets, ops, sensors and checks.

The law of this file: Dagster's words only (configuration, lifetime, secrets, retries); what an operation does is the
core's. Dagster writes down every literal it is configured with, for ever, so the key comes from the environment (or
from `get_api_key`), is masked in the UI, and shows in no `repr`, error or pickle.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import dagster
from dagster import ConfigurableResource, EnvVar
from pydantic import ConfigDict, Field, PrivateAttr

from classifaily_connectors.errors import ConfigurationError
from dagster_classifaily.failures import araising, raising
from dagster_classifaily.loops import LoopClients

if TYPE_CHECKING:
    from typing import Unpack

    from dagster import InitResourceContext

    from classifaily_connectors import (
        AsyncClassifailyClient,
        BatchResult,
        ClassifailyClient,
        Classification,
        Job,
        Schema,
        Usage,
    )
    from classifaily_connectors.media import Input
    from classifaily_connectors.operations.payloads import Item
    from classifaily_connectors.taxonomy import CategoryLike
    from dagster_classifaily.options import BatchOptions, ClassifyOptions, SchemaOptions

KEY_VARIABLE = "CLASSIFAILY_KEY"


class ClassifailyResource(ConfigurableResource[Any]):
    """The ClassifAIly API: classify text, images, audio and video.

    The operations are those of `ClassifailyClient`, by the same names and with the same arguments; those that begin
    with `a` are for `async def` assets and share one pool of connections per event loop. One resource may be used by
    many threads. Connections open on first use and close when Dagster tears the resource down.

    They raise the core's errors. Those that no retry can help (wrong key, plan or arguments, quota used up, not
    found, outcome unknown) are at the same time `Failure(allow_retries=False)`: a `RetryPolicy` never repeats them.
    """

    # Misspelled fields are refused, not ignored; and no error shows what a field was given, which may be the key.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    api_key: str = Field(
        default=EnvVar(KEY_VARIABLE),
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description=f'API key. Pass EnvVar("NAME"); the default is EnvVar("{KEY_VARIABLE}"). Never a literal.',
    )
    base_url: str | None = Field(
        default=None,
        description="Address of the API. Default: CLASSIFAILY_BASE_URL, else the address in the API's documentation.",
    )
    timeout: float | None = Field(
        default=None,
        description="Seconds one attempt may wait for its answer. Default: 60 for one input, 30 + 0.5 per batch item.",
    )
    max_connections: int = Field(default=100, description="Connections open at once, at least 1.")

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _client: ClassifailyClient | None = PrivateAttr(default=None)
    _async_clients: LoopClients | None = PrivateAttr(default=None)

    def get_api_key(self) -> str:
        """The key, when it is first needed; override it to read a vault (and set `api_key: str = ""`)."""
        if isinstance(self.api_key, EnvVar):  # used without Dagster, which would have resolved it
            key = self.api_key.get_value()
            if not key:
                raise ConfigurationError(f"the environment variable {self.api_key.env_var_name} is not set")
            return key
        return self.api_key

    def client_settings(self) -> dict[str, Any]:
        """What `ClassifailyClient(**settings)` needs in another process, without the key.

        A live resource cannot be pickled. Give these to the workers of a process pool, of Ray or of Dask; they take
        the key from their own environment (CLASSIFAILY_KEY) or as `api_key`.
        """
        return {
            "base_url": self.base_url,
            "timeout": self.timeout,
            "max_connections": self.max_connections,
            "application": f"dagster/{dagster.__version__}",
        }

    @property
    def client(self) -> ClassifailyClient:
        """The core's client, for what the methods here do not cover; its errors are the core's own."""
        from classifaily_connectors import ClassifailyClient

        with self._lock:
            if self._client is None:
                self._client = ClassifailyClient(self.get_api_key(), **self.client_settings())
            return self._client

    @property
    def async_client(self) -> AsyncClassifailyClient:
        """The core's asynchronous client of the running event loop; see `client`."""
        with self._lock:
            if self._async_clients is None:
                self._async_clients = LoopClients(self._new_async_client)
            return self._async_clients.current()

    def _new_async_client(self) -> AsyncClassifailyClient:
        from classifaily_connectors import AsyncClassifailyClient

        return AsyncClassifailyClient(self.get_api_key(), **self.client_settings())

    # --- operations ---------------------------------------------------------------------------

    @raising
    def classify(self, input: Input, **options: Unpack[ClassifyOptions]) -> Classification:
        """Classify one input; costs one request. Arguments: `ClassifailyClient.classify`."""
        return self.client.classify(input, **options)

    @raising
    def submit(self, input: Input, **options: Unpack[ClassifyOptions]) -> Job:
        """Queue one input and return its job at once; costs one request. Arguments: `ClassifailyClient.submit`."""
        return self.client.submit(input, **options)

    @raising
    def batch(self, items: Iterable[Item], **options: Unpack[BatchOptions]) -> BatchResult:
        """Classify several inputs in one API call; costs one request each. Arguments: `ClassifailyClient.batch`."""
        return self.client.batch(items, **options)

    @raising
    def usage(self, month: str | None = None) -> Usage:
        """What the plan allows and what is used, in `month` (YYYY-MM) or now; free."""
        return self.client.usage(month)

    @raising
    def ensure_schema(self, name: str, categories: Iterable[CategoryLike], **options: Unpack[SchemaOptions]) -> Schema:
        """The saved schema of this name with exactly these categories: found, updated or created; free."""
        return self.client.schemas.ensure(name, categories, **options)

    @raising
    def get_job(self, id: int | str) -> Job:
        """The job as it stands; free."""
        return self.client.jobs.get(id)

    @raising
    def wait_for_job(self, id: int | str, *, timeout: float | None = None) -> Job:
        """The job once it has completed, within `timeout` seconds (default: 600); free."""
        return self.client.jobs.wait(id, timeout=timeout)

    @araising
    async def aclassify(self, input: Input, **options: Unpack[ClassifyOptions]) -> Classification:
        """See `classify`."""
        return await self.async_client.classify(input, **options)

    @araising
    async def asubmit(self, input: Input, **options: Unpack[ClassifyOptions]) -> Job:
        """See `submit`."""
        return await self.async_client.submit(input, **options)

    @araising
    async def abatch(self, items: Iterable[Item], **options: Unpack[BatchOptions]) -> BatchResult:
        """See `batch`."""
        return await self.async_client.batch(items, **options)

    @araising
    async def ausage(self, month: str | None = None) -> Usage:
        """See `usage`."""
        return await self.async_client.usage(month)

    @araising
    async def aensure_schema(
        self, name: str, categories: Iterable[CategoryLike], **options: Unpack[SchemaOptions]
    ) -> Schema:
        """See `ensure_schema`."""
        return await self.async_client.schemas.ensure(name, categories, **options)

    @araising
    async def aget_job(self, id: int | str) -> Job:
        """See `get_job`."""
        return await self.async_client.jobs.get(id)

    @araising
    async def await_for_job(self, id: int | str, *, timeout: float | None = None) -> Job:
        """See `wait_for_job`."""
        return await self.async_client.jobs.wait(id, timeout=timeout)

    # --- lifetime -----------------------------------------------------------------------------

    def get_resource_definition(self) -> Any:
        """Dagster's own; warns when the key is a literal."""
        if str(self._resolved_config_dict.get("api_key", "")).startswith("cai_live_"):
            warnings.warn(
                f"api_key is a literal: Dagster stores it in every snapshot of the definitions; pass"
                f' EnvVar("{KEY_VARIABLE}") and replace that key',
                stacklevel=2,
            )
        return super().get_resource_definition()

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Close the connections, those of `async def` assets on the event loop of the run."""
        if self._client is not None:
            self._client.close()
        if self._async_clients is not None:
            self._async_clients.close(context.event_loop)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ClassifailyResource holds sockets and a key: give client_settings() to the other process")

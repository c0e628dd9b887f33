"""The ClassifAIly resource: a key, an address, and the operations of the API for assets, ops, sensors and checks.

The law of this file: Dagster's words only (configuration, lifetime, secrets, retries); what an operation does is the
core's. Dagster writes down every literal it is configured with, for ever, so the key comes from the environment (or
from `get_api_key`), is masked in the UI, and shows in no `repr`, error or pickle.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import dagster
from dagster import ConfigurableResource, EnvVar, get_dagster_logger
from pydantic import ConfigDict, Field, PrivateAttr

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.loops import LoopClients
from classifaily_connectors.retry import mendable, replays
from classifaily_connectors.settings import store_url
from dagster_classifaily.failures import araising, never, raising

if TYPE_CHECKING:
    from typing import Unpack

    from dagster import InitResourceContext

    from classifaily_connectors import (
        AsyncClassifailyClient,
        BatchResult,
        ClassifailyClient,
        Classification,
        Job,
        Plan,
        Schema,
        TableResult,
        Usage,
    )
    from classifaily_connectors.media import Input
    from classifaily_connectors.operations.payloads import Item
    from classifaily_connectors.options import BatchOptions, ClassifyOptions, ClassifyTableOptions, SchemaOptions
    from classifaily_connectors.tables.job import Source
    from classifaily_connectors.taxonomy import CategoryLike
    from classifaily_connectors.webhooks import Settled
    from dagster_classifaily.failures import Rule

KEY_VARIABLE = "CLASSIFAILY_KEY"
_TIMEOUT = 600.0
"""Seconds."""
_WRITING = ("output", "prefix", "max_error_ratio")
"""What a plan has no use for."""


class ClassifailyResource(ConfigurableResource[Any]):
    """The ClassifAIly API: classify text, images, audio, video, and tables of them.

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
    store_url: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="The database with what was paid for and what was delivered: sqlite:///… on one machine,"
        " postgresql+psycopg://… for many. Default: CLASSIFAILY_STORE_URL, else a file in Dagster's storage.",
    )
    webhook_store: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="Where deliveries are read, when not in the store: another store URL, or the receiver's address"
        " (https://…/classifaily/webhooks), which needs CLASSIFAILY_WEBHOOK_SECRET.",
    )

    _storage: str | None = PrivateAttr(default=None)
    _ephemeral: bool = PrivateAttr(default=False)
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

    @property
    def store(self) -> str:
        """The URL of the database with what was paid for and what was delivered; it may hold a password.

        Raises ConfigurationError when nobody says where it is and Dagster does not run.
        """
        given = _value(self.store_url)
        if self._storage is None and not (given or os.environ.get("CLASSIFAILY_STORE_URL")):
            raise ConfigurationError("there is no Dagster storage here: pass store_url or set CLASSIFAILY_STORE_URL")
        return store_url(given, self._storage or "")

    @property
    def deliveries(self) -> str:
        """Where the deliveries of webhooks are read: `webhook_store`, else `store`."""
        return _value(self.webhook_store) or self.store

    def _with_ledger(self, options: ClassifyTableOptions) -> ClassifyTableOptions:
        ledger = options.get("ledger")
        if ledger is None or ledger is True:
            ledger = self.store
            if self._ephemeral and str(self._storage) in ledger:
                get_dagster_logger("classifaily").warning(
                    "DAGSTER_HOME is not set: the ledger ends with this process, and a rerun pays again"
                )
        return {**options, "ledger": ledger}

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
    def submit_once(
        self,
        input: Input,
        *,
        identity: str | None = None,
        refresh: bool = False,
        on_unknown: Literal["park", "resend"] = "park",
        **options: Unpack[ClassifyOptions],
    ) -> Job:
        """`submit` through the ledger in `store`: a step that runs again gets the job that is there already.

        Audio and video need an `identity`, because a URL does not tell what lies behind it. Arguments and errors:
        `submit_once` of the core.
        """
        from classifaily_connectors import submit_once

        doubt: Any = {"identity": identity, "refresh": refresh, "on_unknown": on_unknown}
        return submit_once(self.client, input, ledger=self.store, **doubt, **options)

    @raising
    def batch(self, items: Iterable[Item], **options: Unpack[BatchOptions]) -> BatchResult:
        """Classify several inputs in one API call; costs one request each. Arguments: `ClassifailyClient.batch`."""
        return self.client.batch(items, **options)

    def classify_table(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> TableResult:
        """Label a table, each distinct input paid once. Arguments and errors: `classify_table` of the core.

        The ledger is `store` unless `ledger` is another URL; with it, a step that an outage ended may run again, and
        pays nothing twice. With `ledger=False` every error is a `Failure(allow_retries=False)`.
        """
        from classifaily_connectors import classify_table

        given = self._with_ledger(options)
        try:
            return raising(classify_table, _rule(given))(self.client, source, **given)
        finally:
            del source  # or a traceback printed with its locals would show the rows

    @raising
    def plan_table(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> Plan:
        """What `classify_table` with the same arguments would buy; free."""
        from classifaily_connectors import plan_table

        priced: Any = {name: value for name, value in self._with_ledger(options).items() if name not in _WRITING}
        return plan_table(self.client, source, **priced)

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
    def wait_for_job(
        self, id: int | str, *, timeout: float | None = None, deadline: float | None = None, source: str | None = None
    ) -> Job:
        """The job once it has completed; free.

        It waits `timeout` seconds (default: 600), or until `deadline` (seconds since the epoch, which means the same
        to a step that starts again). With a `source` ("default", or the last part of the webhook's path) its webhook
        is awaited, in `deliveries`; without, and when that is lost, the API is asked.

        Raises JobTimeoutError, JobFailedError, and NotFoundError for a job there is not.
        """
        from classifaily_connectors.webhooks import wait_for_job

        found = wait_for_job(self.client, id, **self._patience(timeout, deadline, source))
        return self._settled(found)

    @araising
    async def aclassify(self, input: Input, **options: Unpack[ClassifyOptions]) -> Classification:
        """See `classify`."""
        return await self.async_client.classify(input, **options)

    @araising
    async def asubmit(self, input: Input, **options: Unpack[ClassifyOptions]) -> Job:
        """See `submit`."""
        return await self.async_client.submit(input, **options)

    @araising
    async def asubmit_once(
        self,
        input: Input,
        *,
        identity: str | None = None,
        refresh: bool = False,
        on_unknown: Literal["park", "resend"] = "park",
        **options: Unpack[ClassifyOptions],
    ) -> Job:
        """See `submit_once`."""
        from classifaily_connectors import asubmit_once

        doubt: Any = {"identity": identity, "refresh": refresh, "on_unknown": on_unknown}
        return await asubmit_once(self.async_client, input, ledger=self.store, **doubt, **options)

    @araising
    async def abatch(self, items: Iterable[Item], **options: Unpack[BatchOptions]) -> BatchResult:
        """See `batch`."""
        return await self.async_client.batch(items, **options)

    async def aclassify_table(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> TableResult:
        """See `classify_table`."""
        from classifaily_connectors import aclassify_table

        given = self._with_ledger(options)
        try:
            return await araising(aclassify_table, _rule(given))(self.async_client, source, **given)
        finally:
            del source

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
    async def await_for_job(
        self, id: int | str, *, timeout: float | None = None, deadline: float | None = None, source: str | None = None
    ) -> Job:
        """See `wait_for_job`."""
        from classifaily_connectors.webhooks import await_for_job

        found = await await_for_job(self.async_client, id, **self._patience(timeout, deadline, source))
        return self._settled(found)

    def _patience(self, timeout: float | None, deadline: float | None, source: str | None) -> dict[str, Any]:
        until = time.time() + (_TIMEOUT if timeout is None else timeout) if deadline is None else deadline
        return {"deadline": until, **({"store": self.deliveries, "source": source} if source is not None else {})}

    def _settled(self, found: Settled) -> Job:
        get_dagster_logger("classifaily").info("job %s has ended, told by %s", found.job_id, found.settled_by)
        return found.result()

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

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Remember where Dagster keeps things: there the ledger lies, unless told otherwise."""
        if (instance := context.instance) is not None:
            self._storage, self._ephemeral = instance.storage_directory(), instance.is_ephemeral

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Close the connections, those of `async def` assets on the event loop of the run."""
        if self._client is not None:
            self._client.close()
        if self._async_clients is not None:
            self._async_clients.close(context.event_loop)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ClassifailyResource holds sockets and a key: give client_settings() to the other process")


def _value(setting: str | None) -> str | None:
    return setting.get_value() if isinstance(setting, EnvVar) else setting


def _rule(options: ClassifyTableOptions) -> Rule:
    return mendable if replays(options) else never

"""The ClassifAIly resource: a key, an address, and the operations of the API for assets, ops, sensors and checks.

The law of this file: Dagster's words only (configuration, lifetime, secrets, retries); what an operation does is the
core's. Dagster writes down every literal it is configured with, for ever, so the key comes from the environment (or
from `get_api_key`), is masked in the UI, and shows in no `repr`, error or pickle.
"""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import dagster
from dagster import ConfigurableResource, EnvVar, get_dagster_logger
from pydantic import ConfigDict, Field, PrivateAttr

from classifaily_connectors.loops import LoopClients
from classifaily_connectors.redaction import shown_url
from classifaily_connectors.store.address import default_store
from dagster_classifaily.ledgers import Launching, setting_of
from dagster_classifaily.operations import Operations
from dagster_classifaily.stopping import RunWatch
from dagster_classifaily.usage import Meter

if TYPE_CHECKING:
    from dagster import InitResourceContext

    from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient
    from classifaily_connectors.options import ClassifyTableOptions

KEY_VARIABLE = "CLASSIFAILY_KEY"
KEY_SOURCE = "api_key of the Dagster resource"


class ClassifailyResource(Operations, ConfigurableResource[Any]):
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
        " postgresql+psycopg://… for many. Default: CLASSIFAILY_STORE_URL, else a file in the user's state folder.",
    )
    webhook_store: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra={"dagster__is_secret": True},
        description="Where deliveries are read, when not in the store: another store URL, or the receiver's address"
        " (https://…/classifaily/webhooks), which needs CLASSIFAILY_WEBHOOK_SECRET.",
    )

    _launching: Launching = PrivateAttr(default_factory=Launching)
    _watch: RunWatch | None = PrivateAttr(default=None)
    _meter: Meter = PrivateAttr(default_factory=Meter)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _client: ClassifailyClient | None = PrivateAttr(default=None)
    _async_clients: LoopClients | None = PrivateAttr(default=None)

    def get_api_key(self) -> str:
        """The key, when it is first needed; override it to read a vault (and set `api_key: str = ""`)."""
        return str(setting_of(self.api_key))

    def client_settings(self) -> dict[str, Any]:
        """What `ClassifailyClient(**settings)` needs in another process, without the key.

        A live resource cannot be pickled. Give these to the workers of a process pool, of Ray or of Dask; they take
        the key from their own environment (CLASSIFAILY_KEY) or as `api_key`.
        """
        return {
            "base_url": setting_of(self.base_url),
            "timeout": setting_of(self.timeout),
            "max_connections": setting_of(self.max_connections),
            "application": f"dagster/{dagster.__version__}",
        }

    def check_running(self) -> None:
        """Raise StepStoppedError when the run is being terminated; looks at most once a second."""
        if self._watch is not None:
            self._watch.check()

    @property
    def client(self) -> ClassifailyClient:
        """The core's client, for what the methods here do not cover; its errors are the core's own.

        In a run that is being terminated there is none: raises StepStoppedError.
        """
        from classifaily_connectors import ClassifailyClient

        self.check_running()
        with self._lock:
            if self._client is None:
                self._client = ClassifailyClient(self.get_api_key(), key_source=KEY_SOURCE, **self.client_settings())
            return self._client

    @property
    def async_client(self) -> AsyncClassifailyClient:
        """The core's asynchronous client of the running event loop; see `client`."""
        self.check_running()
        with self._lock:
            if self._async_clients is None:
                self._async_clients = LoopClients(self._new_async_client)
            return self._async_clients.current()

    @property
    def store(self) -> str:
        """The URL of the database with what was paid for and what was delivered; it may hold a password.

        `store_url`, else CLASSIFAILY_STORE_URL, else the ledger that the machine's user has for the command line and
        other platforms.
        """
        home = os.environ.get("DAGSTER_HOME")
        return default_store(setting_of(self.store_url), former_home=Path(home, "storage") if home else None)

    @property
    def deliveries(self) -> str:
        """Where the deliveries of webhooks are read: `webhook_store`, else `store`."""
        return setting_of(self.webhook_store) or self.store

    def ledger_of(self, options: ClassifyTableOptions) -> Any:
        """The ledger of a table with these options: the URL they give, else `store`; None with `ledger=False`."""
        ledger = setting_of(options.get("ledger"))
        if ledger is False:
            return None
        return self.store if ledger is None or ledger is True else ledger

    def _with_ledger(self, options: ClassifyTableOptions) -> ClassifyTableOptions:
        ledger = self.ledger_of(options)
        if isinstance(ledger, str):
            log = get_dagster_logger("classifaily")
            log.info("what is paid for is kept in the ledger %s", shown_url(ledger))
            if doubt := self._launching.doubt(ledger):
                log.warning("%s", doubt)
        return {**options, "ledger": False if ledger is None else ledger}

    def _new_async_client(self) -> AsyncClassifailyClient:
        from classifaily_connectors import AsyncClassifailyClient

        return AsyncClassifailyClient(self.get_api_key(), key_source=KEY_SOURCE, **self.client_settings())

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
        """Remember what starts the runs, and which run this is."""
        if (instance := context.instance) is not None:
            self._launching = Launching.of(instance)
            if (run := context.run) is not None:
                self._watch = RunWatch(instance, run.run_id)

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Close the connections, those of `async def` assets on the event loop of the run."""
        if self._client is not None:
            self._client.close()
        if self._async_clients is not None:
            self._async_clients.close(context.event_loop)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ClassifailyResource holds sockets and a key: give client_settings() to the other process")

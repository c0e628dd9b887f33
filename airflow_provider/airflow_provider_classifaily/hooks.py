"""From an Airflow connection to a ClassifAIly client.

The law of this file: the key comes from the connection and from nowhere else (not from the worker's environment), is
masked before it is used, and leaves this file only inside a client.
"""

from __future__ import annotations

import os
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, cast
from urllib.parse import unquote, urlsplit

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection
    from pydantic import SecretStr

    from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, Usage


class ClassifailyHook(BaseHook):
    """The account that a connection of type `classifaily` names; a context manager that closes its clients.

    The connection's password is the API key, its host the base URL (empty: CLASSIFAILY_BASE_URL, else the API's own),
    its extra fields `timeout` (seconds), `max_connections`, `store_url` (where the ledger and the deliveries are) and,
    for workers that cannot reach that store, `receiver_url` and `webhook_secret`. `classifaily://:KEY@HOST/v1` works
    as a URI.
    """

    conn_name_attr = "classifaily_conn_id"
    default_conn_name = "classifaily_default"
    conn_type = "classifaily"
    hook_name = "ClassifAIly"

    def __init__(self, classifaily_conn_id: str = default_conn_name, logger_name: str | None = None) -> None:
        super().__init__(logger_name)
        self.classifaily_conn_id = classifaily_conn_id
        self._known: _Settings | None = None
        self._client: ClassifailyClient | None = None
        self._async_client: AsyncClassifailyClient | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The connection form for Airflow 3.1; from 3.2 on Airflow reads the provider's metadata instead."""
        from airflow_provider_classifaily.get_provider_info import get_provider_info

        (form,) = get_provider_info()["connection-types"]
        return {name.replace("-", "_"): value for name, value in form["ui-field-behaviour"].items()}

    def get_conn(self) -> ClassifailyClient:
        """The client of this connection, made once and closed with the hook.

        Raises ConfigurationError when the connection lacks a key or holds a setting that cannot work, and
        AirflowNotFoundException when there is no such connection.
        """
        if self._client is None:
            self._client = self._settings().sync_client()
        return self._client

    async def aget_conn(self) -> AsyncClassifailyClient:
        """The asynchronous twin of `get_conn`: for triggers and async tasks, where nothing may block the loop."""
        if self._async_client is None:
            self._async_client = (await self._asettings()).async_client()
        return self._async_client

    def store_url(self) -> str:
        """Where this account's ledger is: the connection's `store_url`, else CLASSIFAILY_STORE_URL, else a SQLite
        file in AIRFLOW_HOME."""
        return self._settings().store()

    def deliveries(self, source: str) -> Deliveries:
        """Where webhooks of `source` are looked for, as arguments of the core's waiting functions: the connection's
        `receiver_url`, else the store itself."""
        return self._settings().deliveries(source)

    async def adeliveries(self, source: str) -> Deliveries:
        """The asynchronous twin of `deliveries`."""
        return (await self._asettings()).deliveries(source)

    def test_connection(self) -> tuple[bool, str]:
        """What the Test button of the connection form shows: GET /usage, which is free."""
        from classifaily_connectors import ClassifailyError, RetryPolicy

        try:
            # Once: whoever pressed the button is waiting.
            with self._settings().sync_client(retry=RetryPolicy(attempts=1)) as client:
                return True, _standing(client.usage())
        except ClassifailyError as error:
            return False, f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """Close the client; the next `get_conn` makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the asynchronous client, in the event loop that used it."""
        client, self._async_client = self._async_client, None
        if client is not None:
            await client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _settings(self) -> _Settings:
        from airflow.sdk.log import mask_secret

        if self._known is None:
            connection = self.get_connection(self.classifaily_conn_id)
            self._known = _read(connection, cast("dict[str, Any]", connection.extra_dejson))  # pyright: ignore[reportUnknownMemberType]
            for secret in self._known.secrets():
                mask_secret(secret)
        return self._known

    async def _asettings(self) -> _Settings:
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        if self._known is None:
            connection = await get_async_connection(self.classifaily_conn_id, hook=self)
            self._known = _read(connection, await get_async_extra_dejson(connection))
            for secret in self._known.secrets():
                await _amask(secret)
        return self._known


class Deliveries(TypedDict):
    """Where to look for a source's webhooks; `secret` opens a receiver's feed."""

    store: str
    source: str
    secret: SecretStr | None


class _Settings(NamedTuple):
    api_key: SecretStr
    base_url: str | None
    timeout: float | None
    max_connections: int | None
    store_url: str | None
    receiver_url: str | None
    webhook_secret: SecretStr | None

    def secrets(self) -> list[str]:
        """What must not be shown. Airflow masks the password as it is stored; with a blank around it, it is not."""
        password = urlsplit(self.store_url or "").password
        found = [self.api_key, self.webhook_secret]
        return [*(each.get_secret_value() for each in found if each), *([unquote(password)] if password else [])]

    def store(self) -> str:
        from classifaily_connectors.settings import store_url

        return store_url(self.store_url, os.environ.get("AIRFLOW_HOME", "~/airflow"))

    def deliveries(self, source: str) -> Deliveries:
        return Deliveries(store=self.receiver_url or self.store(), source=source, secret=self.webhook_secret)

    def sync_client(self, **options: Any) -> ClassifailyClient:
        from classifaily_connectors import ClassifailyClient

        return ClassifailyClient(**self._arguments(), **options)

    def async_client(self) -> AsyncClassifailyClient:
        from classifaily_connectors import AsyncClassifailyClient

        return AsyncClassifailyClient(**self._arguments())

    def _arguments(self) -> dict[str, Any]:
        from airflow import __version__ as airflow_version

        given = {name: getattr(self, name) for name in ("api_key", "base_url", "timeout", "max_connections")}
        given = {name: value for name, value in given.items() if value is not None}
        return {**given, "application": f"airflow/{airflow_version}"}


def _read(connection: Connection, extra: Mapping[str, Any]) -> _Settings:
    from pydantic import SecretStr

    from classifaily_connectors import ConfigurationError

    name = connection.conn_id
    key = SecretStr((connection.password or "").strip())
    if not key.get_secret_value():
        raise ConfigurationError(f"connection {name!r} has no password: put the API key there")

    def number(field: str, kind: type[float | int]) -> Any:
        # A number typed into a form is a number, one in a connection URI is text, and an empty field is either.
        value = extra.get(field)
        if value is None or value == "":
            return None
        try:
            return kind(value)
        except (TypeError, ValueError):
            raise ConfigurationError(f"connection {name!r}: extra field {field} is {value!r}, not a number") from None

    def word(field: str) -> str | None:
        return str(extra.get(field) or "").strip() or None

    secret = word("webhook_secret")
    return _Settings(
        key,
        _base_url(connection),
        number("timeout", float),
        number("max_connections", int),
        word("store_url"),
        word("receiver_url"),
        None if secret is None else SecretStr(secret),
    )


def _base_url(connection: Connection) -> str | None:
    """The host as a URL: `classifaily://:KEY@HOST:PORT/v1` arrives as host, port and schema."""
    host = (connection.host or "").strip()
    if not host:
        return None
    port = f":{connection.port}" if connection.port else ""
    path = f"/{connection.schema}" if connection.schema else ""
    return f"{host if '://' in host else f'https://{host}'}{port}{path}"


async def _amask(secret: str) -> None:
    import asyncio

    from airflow.sdk import log

    # Airflow >=3.3.2 masks on the loop; before, masking talks to the supervisor and must not block the loop.
    if hasattr(log, "amask_secret"):
        await log.amask_secret(secret)
    else:
        await asyncio.to_thread(log.mask_secret, secret)


def _standing(usage: Usage) -> str:
    limits, remaining = usage.limits, usage.remaining
    plan = f"Connected. Plan {usage.plan or 'unknown'}"
    if remaining is None:
        return f"{plan}: requests are not limited"
    of = "" if limits.requests is None else f" of {limits.requests:,}"
    until = "" if limits.resets_at is None else f" until {limits.resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{plan}: {remaining:,}{of} requests left{until}"

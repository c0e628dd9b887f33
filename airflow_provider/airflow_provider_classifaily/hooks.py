"""From an Airflow connection to a ClassifAIly client.

The law of this file: key and address come from the connection and from nowhere else (not from the worker's
environment: a key must not go to an address that somebody exported for another), are masked before they are used, and
leave this file only inside a client.
"""

from __future__ import annotations

import os
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, cast
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection
    from pydantic import SecretStr

    from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, Usage


class ClassifailyHook(BaseHook):
    """The account that a connection of type `classifaily` names; a context manager that closes its clients.

    The connection's password is the API key, its host the base URL (empty: the API's own; CLASSIFAILY_BASE_URL is not
    used), its extra fields `timeout` (seconds), `max_connections`, `store_url` (where the ledger and the deliveries
    are) and, for workers that cannot reach that store, `receiver_url` and `webhook_secret`.
    `classifaily://:KEY@HOST/v1` works as a URI.
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
        """Where this account's ledger is: the connection's `store_url`, else CLASSIFAILY_STORE_URL, else the
        file that the command line and other platforms of this machine's user have too."""
        return self._settings().store()

    def doubts_about(self, ledger: str) -> list[str]:
        """Why what is paid into this ledger may be paid again by the next run: its disk does not last, or other
        machines have another one. Empty when nothing speaks for it."""
        from classifaily_connectors.redaction import shown_url
        from classifaily_connectors.store.address import store_url
        from classifaily_connectors.store.lifetime import ends_with_run

        ledger = store_url(ledger)
        found: list[str] = []
        ends = ends_with_run(ledger)
        if ends is not None:
            found.append(f"the ledger {shown_url(ledger)} may be gone before the next run ({ends})")
        elsewhere = [each for each in _executors() if each.rpartition(".")[2] not in _ONE_MACHINE]
        if elsewhere and ledger.startswith("sqlite"):
            found.append(f"the ledger {shown_url(ledger)} is a file of this machine, and {elsewhere[0]} uses several")
        return [
            f"{each}: what is paid now would be paid again. Set the connection's store_url to a PostgreSQL"
            for each in found
        ]

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
            self._say_what_is_not_used()
        return self._known

    def _say_what_is_not_used(self) -> None:
        exported = os.environ.get("CLASSIFAILY_BASE_URL")
        if exported and self._known is not None and self._known.base_url is None:
            self.log.warning(
                "connection %r has no host: its key goes to the API's own address. CLASSIFAILY_BASE_URL is not used; "
                "if that address is meant, put it into the connection's host",
                self.classifaily_conn_id,
            )

    async def _asettings(self) -> _Settings:
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        if self._known is None:
            connection = await get_async_connection(self.classifaily_conn_id, hook=self)
            self._known = _read(connection, await get_async_extra_dejson(connection))
            for secret in self._known.secrets():
                await _amask(secret)
            self._say_what_is_not_used()
        return self._known


_ONE_MACHINE = ("LocalExecutor", "SequentialExecutor", "DebugExecutor")


def _executors() -> list[str]:
    """The executors this Airflow has; one may have an alias, and belong to a team."""
    from airflow.providers.common.compat.sdk import conf

    said = str(conf.get("core", "executor", fallback="") or "")
    return [name for each in said.replace(";", ",").split(",") if (name := each.rpartition(":")[2].strip())]


class Deliveries(TypedDict):
    """Where to look for a source's webhooks; `secret` opens a receiver's feed."""

    store: str
    source: str
    secret: SecretStr | None


class _Settings(NamedTuple):
    connection: str
    api_key: SecretStr
    base_url: str | None
    timeout: float | None
    max_connections: int | None
    store_url: str | None
    receiver_url: str | None
    webhook_secret: SecretStr | None

    def secrets(self) -> list[str]:
        """What must not be shown, in every form. Airflow masks a password as it is stored; we strip blanks from it."""
        from classifaily_connectors.redaction import url_secrets

        webhook = self.webhook_secret.get_secret_value() if self.webhook_secret else ""
        several = [each.strip() for each in webhook.replace("\n", ",").split(",")]
        urls = (self.store(), self.receiver_url or "", self.base_url or "")
        passwords = [secret for url in urls for secret in url_secrets(url)]
        return [each for each in (self.api_key.get_secret_value(), webhook, *several, *passwords) if each]

    def store(self) -> str:
        from classifaily_connectors.store.address import default_store

        return default_store(self.store_url, former_home=os.environ.get("AIRFLOW_HOME", "~/airflow"))

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

        from classifaily_connectors.settings import BASE_URL

        given = {name: getattr(self, name) for name in ("api_key", "base_url", "timeout", "max_connections")}
        given = {name: value for name, value in given.items() if value is not None}
        # Said in any case: the client would take the environment's for want of another.
        given.setdefault("base_url", BASE_URL)
        source = f"the password of the Airflow connection {self.connection!r}"
        return {**given, "application": f"airflow/{airflow_version}", "key_source": source}


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
        str(name),
        key,
        _base_url(connection),
        number("timeout", float),
        number("max_connections", int),
        word("store_url"),
        word("receiver_url"),
        None if secret is None else SecretStr(secret),
    )


def _base_url(connection: Connection) -> str | None:
    """The host as a URL, whether it is one already or comes in parts: `classifaily://:KEY@HOST:PORT/v1` arrives as
    host, port and schema, an IPv6 address without its brackets; and Airflow's form may ask for a port all the same.

    Raises ConfigurationError when the host names one port and the connection another.
    """
    from classifaily_connectors import ConfigurationError

    host = (connection.host or "").strip()
    if not host:
        return None
    schema = (connection.schema or "").strip().strip("/")
    scheme = schema if schema.lower() in ("http", "https") else ""
    if "://" not in host:
        if host.count(":") > 1 and not host.startswith("["):
            host = f"[{host}]"
        host = f"{scheme or 'https'}://{host}"
    try:
        parts = urlsplit(host)
        named = parts.port
    except ValueError:
        return host  # the client says what is wrong with it
    authority, path = parts.netloc, parts.path.rstrip("/")
    if connection.port and named is None:
        authority = f"{authority}:{connection.port}"
    elif connection.port and named != connection.port:
        raise ConfigurationError(
            f"connection {connection.conn_id!r}: its host says port {named}, its port {connection.port}: empty one"
        )
    if schema and not scheme and not path.endswith(f"/{schema}"):
        path = f"{path}/{schema}"
    return parts._replace(netloc=authority, path=path).geturl()


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

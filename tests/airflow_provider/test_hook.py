"""The hook: every way a connection may arrive, and what the Test button says."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow_kit import CONNECTION, KEY, STATE, RunDag, connection_json

from airflow_provider_classifaily.hooks import ClassifailyHook
from classifaily_connectors import ClassifailyClient, ConfigurationError
from classifaily_connectors.sandbox import Sandbox, Switches


def connect(monkeypatch: pytest.MonkeyPatch, value: Any) -> ClassifailyHook:
    monkeypatch.setenv(CONNECTION, value if isinstance(value, str) else json.dumps(value))
    return ClassifailyHook()


# --- where connections come from --------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "uri"])
def test_from_the_environment(run_dag: RunDag, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    plain = f"classifaily://http://:{sandbox.key}@{sandbox.root_url.removeprefix('http://')}/v1?timeout=20"
    monkeypatch.setenv(CONNECTION, connection_json(sandbox) if form == "json" else plain)
    assert run_dag("classify").xcom("classify")["label"] == "billing"


def test_from_the_metadata_database(run_dag: RunDag, sandbox: Sandbox) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        kept = Connection("in_database", "classifaily", host=sandbox.base_url, password=sandbox.key)
        session.add(kept)
    assert run_dag("classify", conn_id="in_database").xcom("classify")["label"] == "billing"


def test_from_a_secrets_backend(
    run_dag: RunDag, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = tmp_path / "connections.json"
    secrets.write_text(json.dumps({"in_vault": json.loads(connection_json(sandbox))}))
    backend = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", backend)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps({"connections_file_path": str(secrets)}))
    assert run_dag("classify", conn_id="in_vault").xcom("classify")["label"] == "billing"


def test_a_key_in_the_workers_environment_is_not_used(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFAILY_KEY", sandbox.key)
    hook = connect(monkeypatch, {"conn_type": "classifaily", "host": sandbox.base_url})
    with pytest.raises(ConfigurationError, match="'classifaily_default' has no password: put the API key there"):
        hook.get_conn()
    assert not sandbox.requests


def test_a_connection_there_is_not() -> None:
    with pytest.raises(AirflowNotFoundException):
        ClassifailyHook("elsewhere").get_conn()


# --- what a connection may say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "schema", "base_url"),
    [
        ("https://api.classifaily.com/v1/", None, None, "https://api.classifaily.com/v1"),
        ("api.classifaily.com", None, "v1", "https://api.classifaily.com/v1"),
        ("api.classifaily.com", 8443, "v1", "https://api.classifaily.com:8443/v1"),
        ("http://127.0.0.1", 8765, "v1", "http://127.0.0.1:8765/v1"),
        ("http://127.0.0.1:8765/v1", 0, "", "http://127.0.0.1:8765/v1"),
        ("", None, None, "https://api.classifaily.com/v1"),
        (None, None, None, "https://api.classifaily.com/v1"),
        # Airflow 3.3.2 asks for a port to test a connection.
        ("http://127.0.0.1:8765/v1", 8765, None, "http://127.0.0.1:8765/v1"),
        ("http://127.0.0.1/v1", 8765, None, "http://127.0.0.1:8765/v1"),
        ("http://127.0.0.1:8765/v1", 8765, "v1", "http://127.0.0.1:8765/v1"),
        ("https://proxy.example.com/classifaily/", 8443, "/v1/", "https://proxy.example.com:8443/classifaily/v1"),
        ("127.0.0.1:8765", None, "http", "http://127.0.0.1:8765"),
        ("::1", 8765, "v1", "https://[::1]:8765/v1"),
        ("[::1]", 8765, "v1", "https://[::1]:8765/v1"),
        ("http://[::1]/v1", 8765, None, "http://[::1]:8765/v1"),
    ],
)
def test_the_base_url(
    monkeypatch: pytest.MonkeyPatch, host: str | None, port: int | None, schema: str | None, base_url: str
) -> None:
    given = {"conn_type": "classifaily", "password": KEY, "host": host, "port": port, "schema": schema}
    with connect(monkeypatch, given) as hook:
        assert repr(hook.get_conn()) == f"ClassifailyClient(base_url={base_url!r})"


def test_a_connection_uri_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(monkeypatch, f"classifaily://:{KEY}@api.classifaily.com/v1?timeout=20&max_connections=3") as hook:
        assert repr(hook.get_conn()) == "ClassifailyClient(base_url='https://api.classifaily.com/v1')"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"timeout": "soon"}, "'classifaily_default': extra field timeout is 'soon', not a number"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": "nan"}, "timeout is nan"),
        ({"max_connections": "many"}, "extra field max_connections is 'many'"),
        ({"max_connections": 0}, "max_connections is 0"),
    ],
)
def test_a_setting_that_cannot_work_is_named(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], message: str
) -> None:
    hook = connect(monkeypatch, {"conn_type": "classifaily", "password": KEY, "extra": extra})
    with pytest.raises(ConfigurationError, match=message) as caught:
        hook.get_conn()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("extra", [{}, {"timeout": "", "max_connections": None}, {"timeout": 5, "max_connections": 2}])
def test_empty_form_fields_are_the_defaults(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any]
) -> None:
    with connect(monkeypatch, connection_json(sandbox, extra=extra)) as hook:
        assert hook.get_conn().usage().plan == "starter"


# --- the clients ------------------------------------------------------------------------------------


def test_one_client_per_hook_closed_with_it(connected: Sandbox) -> None:
    with ClassifailyHook() as hook:
        client = hook.get_conn()
        assert isinstance(client, ClassifailyClient)
        assert hook.get_conn() is client
        client.usage()
    with pytest.raises(ConfigurationError, match="closed"):
        client.usage()
    assert hook.get_conn() is not client
    hook.close()


async def test_the_asynchronous_client(connected: Sandbox) -> None:
    async with ClassifailyHook() as hook:
        client = await hook.aget_conn()
        assert await hook.aget_conn() is client
        answer = await client.classify("Refund me", categories=["billing", "technical"])
        assert answer.label == "billing"
    with pytest.raises(ConfigurationError, match="closed"):
        await client.usage()


def test_the_api_learns_that_it_is_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow import __version__

    agents: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            agents.append(self.headers["User-Agent"])
            self.send_error(401)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/v1"
        # The Test button asks once, so one request is all this server must answer.
        connect(monkeypatch, {"conn_type": "classifaily", "password": KEY, "host": address}).test_connection()
        thread.join()
    assert f" airflow/{__version__} " in f" {agents[0]} "


def test_the_key_is_masked_also_without_the_blanks_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.log import redact

    padded = "cai_live_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    with connect(monkeypatch, {"conn_type": "classifaily", "password": f" {padded}\n"}) as hook:
        assert padded in redact(f"key: {padded}")
        hook.get_conn()
    assert padded not in redact(f"key: {padded}")


def test_the_connections_other_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.log import redact

    webhook, database = "whsec-cccccccccccccccc", "p@ssword-dddddddddddd"
    extra = {"webhook_secret": webhook, "store_url": f"postgresql+psycopg://u:{quote(database, safe='')}@db/ledger"}
    with connect(monkeypatch, {"conn_type": "classifaily", "password": KEY, "extra": extra}) as hook:
        hook.store_url()
    assert not {webhook, database} & set(redact(f"{webhook} {database}").split())


@pytest.mark.parametrize(
    ("store_url", "password"),
    [
        ("postgresql+psycopg://u:enc%40ded-eeeeeeee@db/ledger", "enc%40ded-eeeeeeee"),
        ("postgresql+psycopg://u:enc%40ded-ffffffff@db/ledger", "enc@ded-ffffffff"),
        ("postgresql+psycopg://db/ledger?user=u&password=query-gggggggg", "query-gggggggg"),
    ],
)
@pytest.mark.parametrize("where", ["connection", "environment"])
def test_every_form_of_the_stores_password_is_masked(
    monkeypatch: pytest.MonkeyPatch, store_url: str, password: str, where: str
) -> None:
    from airflow.sdk.log import redact

    store_url, password = (each.replace("-", f"-{where}-") for each in (store_url, password))
    if where == "environment":
        monkeypatch.setenv("CLASSIFAILY_STORE_URL", store_url)
    extra = {"store_url": store_url} if where == "connection" else {}
    with connect(monkeypatch, {"conn_type": "classifaily", "password": KEY, "extra": extra}) as hook:
        hook.store_url()
    assert password not in redact(f"the driver says {password} and {store_url}")


def test_each_of_several_webhook_secrets_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.log import redact

    new, old = "whsec-hhhhhhhhhhhhhhhh", "whsec-iiiiiiiiiiiiiiii"
    extra = {"webhook_secret": f"{new}, {old}"}
    with connect(monkeypatch, {"conn_type": "classifaily", "password": KEY, "extra": extra}) as hook:
        hook.store_url()
    assert redact(f"{new} and {old}") == "*** and ***"


def test_a_key_never_goes_to_an_address_from_the_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither half of an account comes from the worker's environment."""
    monkeypatch.setenv("CLASSIFAILY_BASE_URL", sandbox.base_url)
    with connect(monkeypatch, {"conn_type": "classifaily", "password": KEY}) as hook:
        assert repr(hook.get_conn()) == "ClassifailyClient(base_url='https://api.classifaily.com/v1')"
    assert "CLASSIFAILY_BASE_URL is not used" in "".join(capfd.readouterr())
    with connect(monkeypatch, connection_json(sandbox)) as hook:
        assert hook.get_conn().usage()
    assert "CLASSIFAILY_BASE_URL" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("executor", "ledger", "doubt"),
    [
        ("LocalExecutor", "sqlite:////srv/labels.db", None),
        ("CeleryExecutor", "sqlite:////srv/labels.db", "CeleryExecutor uses several"),
        ("CeleryExecutor", "/srv/labels.db", "CeleryExecutor uses several"),
        ("LocalExecutor,airflow.executors.KubernetesExecutor", "sqlite:////srv/labels.db", "KubernetesExecutor uses"),
        ("CeleryExecutor", "postgresql+psycopg://u:hidden@db/labels", None),
        ("LocalExecutor", "sqlite:////tmp/labels.db", "may be gone before the next run"),
    ],
)
def test_a_ledger_that_the_next_run_may_not_have_is_doubted(
    connected: Sandbox, monkeypatch: pytest.MonkeyPatch, executor: str, ledger: str, doubt: str | None
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.setattr("classifaily_connectors.store.lifetime.file_system", lambda folder: "ext4")
    found = ClassifailyHook().doubts_about(ledger)
    assert bool(found) == (doubt is not None)
    assert doubt is None or (doubt in found[0] and "would be paid again" in found[0])
    assert "hidden" not in str(found)


def test_two_ports_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"conn_type": "classifaily", "password": KEY, "host": "http://127.0.0.1:1/v1", "port": 2}
    works, message = connect(monkeypatch, given).test_connection()
    assert not works
    assert "its host says port 1, its port 2" in message


async def test_where_webhooks_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the store, unless the connection names a receiver; the same for a task and for a trigger."""
    receiver = "https://airflow.example.com/classifaily/webhooks"
    for extra, store in (({}, f"sqlite:///{STATE}/ledger.db"), ({"receiver_url": receiver}, receiver)):
        given = {"conn_type": "classifaily", "password": KEY, "extra": {"webhook_secret": "whsec-0123456789", **extra}}
        hook = connect(monkeypatch, given)
        found = hook.deliveries("staging")
        assert found == await connect(monkeypatch, given).adeliveries("staging")
        assert (found["store"], found["source"]) == (store, "staging")
        assert found["secret"]
        assert "0123456789" not in repr(found)


# --- the Test button --------------------------------------------------------------------------------


def test_the_test_button_tells_plan_rest_and_reset(connected: Sandbox) -> None:
    connected.add_key(KEY, plan="starter", used=1_234)
    worked, message = ClassifailyHook().test_connection()
    assert worked
    assert message.startswith("Connected. Plan starter: 8,766 of 10,000 requests left until 20")
    assert message.endswith("-01 00:00 UTC")
    assert connected.bill().charged == 0


def test_an_unlimited_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(plan="enterprise", key=KEY, switches=Switches(unlimited="minus_one")) as sandbox:
        hook = connect(monkeypatch, connection_json(sandbox))
        assert hook.test_connection() == (True, "Connected. Plan enterprise: requests are not limited")


def test_a_wrong_key_and_a_wrong_address(connected: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    connected.revoke(KEY)
    worked, message = ClassifailyHook().test_connection()
    assert not worked
    assert message.startswith("AuthenticationError: ")
    assert "the key came from the password of the Airflow connection 'classifaily_default': check it there" in message
    assert KEY[-4:] not in message
    assert len(connected.requests) == 1
    assert connect(monkeypatch, connection_json(connected, host="http://127.0.0.1:9/v1")).test_connection()[0] is False
    worked, message = connect(monkeypatch, {"conn_type": "classifaily"}).test_connection()
    assert (worked, "has no password" in message) == (False, True)

"""The sandbox as a library, as an app to mount, under its admin routes, and from the command line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.sandbox import DEFAULT_KEY, Fault, Sandbox, Switches, create_app

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from classifaily_connectors.cli import main; main()", "sandbox"]


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("classifaily-sandbox")]


def test_it_accepts_when_started_and_leaves_nothing_behind() -> None:
    with Sandbox(plan="pro", switches=Switches(job_delay=0)) as sandbox:
        parts = urlsplit(sandbox.root_url)
        socket.create_connection((parts.hostname or "", parts.port or 0)).close()
        headers = {"Authorization": f"Bearer {sandbox.key}"}
        httpx.post(f"{sandbox.base_url}/classify", json={"input": "x", "async": True}, headers=headers)
        assert ours()
    assert not ours()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((parts.hostname or "", parts.port or 0))
    sandbox.close()


def test_closing_sends_a_delayed_answer_at_once(start: Callable[..., Any]) -> None:
    api = start()
    api.inject(Fault(kind="delay", seconds=60))
    answers: list[int] = []
    asked = threading.Thread(target=lambda: answers.append(api.classify().status_code))
    asked.start()
    while not api.requests:
        time.sleep(0.005)
    api.close()
    asked.join()
    assert answers == [200]


def test_many_at_once_are_all_counted_once(start: Callable[..., Any]) -> None:
    api = start()
    threads = [threading.Thread(target=lambda: [api.classify() for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.bill().charged == api.used() == 160
    ids = [job["id"] for job in api.get("/jobs", limit=100).json()["jobs"]]
    assert len(set(ids)) == 100


def test_the_seed_decides_ids_and_secrets(start: Callable[..., Any]) -> None:
    def told(seed: int) -> tuple[str, str, str]:
        api = start(plan="pro", seed=seed)
        secret = api.post("/webhooks", {"url": "https://e.org"}).json()["secret"]
        return api.classify().json()["id"], api.batch("a").json()["id"], secret

    assert told(1) == told(1)
    assert not set(told(1)) & set(told(2))


def test_a_wrong_plan_is_named() -> None:
    with pytest.raises(ConfigurationError, match="plan must be one of free, starter, pro"):
        Sandbox(plan="gold")


def test_no_secret_shows(start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    api.post("/webhooks", {"url": "https://e.org", "secret": "whsec-hidden"})
    api.classify("my private words", **{"async": True})
    shown = repr(api.sandbox) + repr(api._core.service.state) + repr(api.requests)
    for secret in (api.key, "whsec-hidden", "my private words"):
        assert secret not in shown


async def test_the_app_can_be_mounted_anywhere() -> None:
    app = create_app(plan="free")
    house = Starlette(routes=[Mount("/fake", app=app)])
    headers = {"Authorization": f"Bearer {DEFAULT_KEY}"}
    transport = httpx.ASGITransport(house)
    async with httpx.AsyncClient(transport=transport, base_url="http://house/fake", headers=headers) as client:
        assert (await client.post("/api/v1/classify", json={"input": "x"})).status_code == 200
        assert (await client.get("/__sandbox/bill")).json()["charged"] == 1
        assert (await client.get("/v1/usage")).json()["plan"] == "free"
    app.state.core.close()


def test_a_large_batch_is_cheaper_than_its_items_one_by_one(start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    names = "billing technical account refund delivery food sport travel legal hr"
    categories = [f"desk {name}" for name in names.split()]
    texts = [f"My invoice number {n} shows a double charge, I would like my money back" for n in range(500)]
    api.classify(texts[0], categories=categories)
    began = time.perf_counter()
    assert api.batch(*texts, categories=categories).json()["meta"]["completed"] == 500
    batch = time.perf_counter() - began
    began = time.perf_counter()
    for text in texts:
        api.classify(text, categories=categories)
    assert batch < time.perf_counter() - began


# --- admin ----------------------------------------------------------------------------------------------------


def test_admin_routes_are_off_unless_asked_for(start: Callable[..., Any]) -> None:
    api = start()
    assert httpx.post(f"{api.root_url}/__sandbox/faults", json={"kind": "500"}).status_code == 404
    assert httpx.get(f"{api.root_url}/__sandbox/requests").status_code == 404
    assert httpx.delete(f"{api.root_url}/__sandbox/bill").status_code == 405
    assert httpx.get(f"{api.root_url}/__sandbox/bill").status_code == 200


def test_admin_routes_do_what_the_library_does(start: Callable[..., Any]) -> None:
    api = start(admin=True, plan="pro")
    with httpx.Client(base_url=f"{api.root_url}/__sandbox") as admin:
        assert admin.post("/faults", json={"kind": "500", "path": "/classify", "times": None}).status_code == 204
        assert api.classify().status_code == 500
        admin.delete("/faults")
        admin.post("/scripts", json={"input": "x", "result": "special"})
        assert api.classify("x").json()["result"]["label"] == "special"
        admin.post("/clock", json={"set": "2030-05-05T00:00:00+00:00", "advance": {"days": 30}})
        assert api.get("/usage").json()["period"] == "2030-06"
        assert datetime.fromisoformat(admin.get("/clock").json()["now"]) >= datetime(2030, 6, 4, tzinfo=UTC)
        admin.post("/keys", json={"key": "other", "plan": "free", "used": 100})
        refused = httpx.post(f"{api.base_url}/classify", json={"input": "x"}, headers={"Authorization": "Bearer other"})
        assert refused.status_code == 429
        for standing, status in (("lapsed", 403), ("revoked", 401), ("active", 200)):
            admin.post("/keys", json={"key": api.key, "plan": "pro", "standing": standing})
            assert api.get("/usage").status_code == status
        assert [record["status"] for record in admin.get("/requests").json()][:2] == [500, 200]
        assert admin.get("/switches").json()["create_status"] == 201
        assert admin.get("/deliveries").json() == []
        admin.delete("/bill")
        assert admin.get("/bill").json() == {"charged": 0, "by_input": {}}
        for path, body in (
            ("/faults", {"kind": "explode"}),
            ("/faults", {}),
            ("/keys", {}),
            ("/keys", {"key": "k", "plan": "gold"}),
            ("/keys", {"key": "k", "standing": "odd"}),
            ("/clock", {"set": "soon"}),
            ("/clock", {"advance": {"moons": 1}}),
            ("/scripts", {"input": "x", "colour": 1}),
        ):
            answer = admin.post(path, json=body)
            assert answer.status_code == 400, (path, body)
            assert answer.json()["error"]


# --- command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    options = ["--port", "0", "--plan", "free", "--key", "cai_live_a", "--key", "cai_live_b:pro", "--admin"]
    options += ["--switch", "create_status=200", "--switch", "batch_limit=3"]
    child = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        lines: list[str] = []
        while not lines or not lines[-1].startswith("ready"):
            lines.append(child.stdout.readline().rstrip())
            assert lines[-1], child.stderr.read() if child.stderr else ""
        base = lines[-1].split()[1]
        assert f"export CLASSIFAILY_BASE_URL={base}" in lines
        assert "export CLASSIFAILY_KEY=cai_live_a" in lines
        assert httpx.get(next(line for line in lines if line.startswith("bill")).split()[1]).json()["charged"] == 0
        for key, plan in (("cai_live_a", "free"), ("cai_live_b", "pro")):
            usage = httpx.get(f"{base}/usage", headers={"Authorization": f"Bearer {key}"})
            assert usage.json()["plan"] == plan
        assert httpx.get(base.replace("/v1", "/__sandbox/switches")).json()["batch_limit"] == 3
        child.send_signal(number)
        out, err = child.communicate(timeout=10)
        assert (child.returncode, out, err) == (0, "", "")
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--plan", "gold"], "gold"),
        (["--key", "k:gold"], "gold"),
        (["--switch", "nonsense=1"], "nonsense"),
        (["--switch", "create_status=204"], "create_status"),
    ],
)
def test_wrong_options_are_named(options: list[str], named: str) -> None:
    done = subprocess.run([*COMMAND, "--port", "0", *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said(start: Callable[..., Any]) -> None:
    port = str(urlsplit(start().root_url).port)
    done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "use", "extra"),
    [
        ("uvicorn", "from classifaily_connectors.sandbox import Sandbox", "sandbox"),
        ("starlette", "from classifaily_connectors.sandbox import create_app", "sandbox"),
        ("sklearn", "from classifaily_connectors.sandbox import Sandbox", "sandbox"),
        ("typer", "from classifaily_connectors.cli import main", "cli"),
    ],
)
def test_a_missing_extra_names_the_command(missing: str, use: str, extra: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None\n{use}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert f"pip install 'classifaily-connectors[{extra}]'" in last


def test_naming_a_switch_or_fault_needs_no_extra() -> None:
    script = "import sys; from classifaily_connectors.sandbox import Fault, Switches\n"
    script += "print([name for name in ('uvicorn', 'starlette', 'sklearn', 'httpx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

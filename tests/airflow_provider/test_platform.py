"""A whole Airflow with all examples loaded, asked through its API server as its UI asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow_kit import EXAMPLES, KEY, files_holding, processes_in

from classifaily_connectors.sandbox import Sandbox

OTHER_KEY = "cai_live_0e40e40e40e40e40e40e40e40e40e40e40e40e40"


@dataclass
class Platform:
    url: str
    home: Path
    sandbox: Sandbox
    token: str = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def run(self, dag_id: str, **conf: Any) -> tuple[str, dict[str, tuple[str, int, Any]]]:
        """The state of a DAG run at its end; of each task its state, its tries and its XCom."""
        run_id = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        deadline = time.monotonic() + 90
        while (state := self.call("GET", path)["state"]) not in ("success", "failed"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        tasks = self.call("GET", f"{path}/taskInstances")["task_instances"]
        return state, {
            task["task_id"]: (task["state"], task["try_number"], self._xcom(path, task["task_id"])) for task in tasks
        }

    def _xcom(self, path: str, task_id: str) -> Any:
        entries = self.call("GET", f"{path}/taskInstances/{task_id}/xcomEntries")["xcom_entries"]
        if not entries:
            return None
        return self.call("GET", f"{path}/taskInstances/{task_id}/xcomEntries/return_value")["value"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("platform")
    with Sandbox(plan="pro", key=KEY) as sandbox:
        sandbox.add_key(OTHER_KEY, plan="free")
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        env |= {"CLASSIFAILY_KEY": KEY, "CLASSIFAILY_BASE_URL": sandbox.base_url}
        command = [sys.executable, str(EXAMPLES / "launch.py"), "ui", "--port", "0", "--workdir", str(home)]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout
            found = Platform(json.loads(process.stdout.readline())["url"], home, sandbox)
            found.token = found.call("GET", "/auth/token")["access_token"]
            yield found
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert processes_in(home) == []


def test_the_connection_form(platform: Platform) -> None:
    forms = platform.call("GET", "/ui/connections/hook_meta")
    (form,) = (form for form in forms if form["connection_type"] == "classifaily")
    assert form["hook_name"] == "ClassifAIly"
    standard = form["standard_fields"]
    assert {name for name, field in standard.items() if field and field["hidden"]} == {"login", "port", "url_schema"}
    assert standard["password"]["title"] == "API key"
    assert standard["host"]["title"] == "Base URL"
    assert standard["host"]["placeholder"] == "https://api.classifaily.com/v1"
    assert {name: field["schema"]["type"] for name, field in form["extra_fields"].items()} == {
        "timeout": ["number", "null"],
        "max_connections": ["integer", "null"],
        "store_url": ["string", "null"],
        "receiver_url": ["string", "null"],
        "webhook_secret": ["string", "null"],
    }


def test_the_key_is_never_shown_again(platform: Platform) -> None:
    listed = platform.call("GET", "/api/v2/connections")
    assert "classifaily_default" in {each["connection_id"] for each in listed["connections"]}
    assert KEY not in json.dumps(listed)
    assert KEY not in json.dumps(platform.call("GET", "/api/v2/connections/classifaily_default"))


def test_the_test_button(platform: Platform) -> None:
    # As the button of the list sends it: what the API told it, the key as asterisks, no port as 0.
    listed = platform.call("GET", "/api/v2/connections/classifaily_default")
    stored = {**{name: value for name, value in listed.items() if name != "team_name"}, "port": 0}
    assert stored["password"] == "***"
    answer = platform.call("POST", "/api/v2/connections/test", stored)
    assert answer["status"] is True, answer
    assert answer["message"].startswith("Connected. Plan pro: ")
    # As typed into the form, not saved yet; numbers arrive in `extra`.
    typed = {**stored, "connection_id": "typed", "password": OTHER_KEY, "extra": json.dumps({"timeout": 5})}
    assert "Plan free: 100 of 100 requests left" in platform.call("POST", "/api/v2/connections/test", typed)["message"]
    wrong = {**typed, "password": "cai_live_wrong"}
    answer = platform.call("POST", "/api/v2/connections/test", wrong)
    assert (answer["status"], answer["message"].partition(":")[0]) == (False, "AuthenticationError")
    assert "cai_live_wrong" not in answer["message"]


def test_the_examples_run_and_leave_no_secret_behind(platform: Platform, tmp_path: Path) -> None:
    state, tasks = platform.run("classify_one", text="I was charged twice")
    assert (state, tasks["classify"][2]["label"]) == ("success", "billing")

    state, tasks = platform.run("keep_schema")
    assert state == "success"
    assert len(tasks["classify"][2]["labels"]) == 2
    assert platform.run("keep_schema")[1]["teams"][2] == tasks["teams"][2]

    state, tasks = platform.run("queued_call")
    assert (state, tasks["wait"][2]["job_id"]) == ("success", tasks["submit"][2])
    assert tasks["wait"][2]["label"]
    wait_until = time.monotonic() + 60
    while not any(delivery.status == 204 for delivery in platform.sandbox.deliveries):
        assert time.monotonic() < wait_until
        time.sleep(0.05)

    private = "my diagnosis was read out loud in the waiting room"
    (tmp_path / "private.txt").write_text(f"{private}\nThank you, wonderful praise!\n")
    paths = {"texts": str(tmp_path / "private.txt"), "labels": str(tmp_path / "labels.txt")}
    assert platform.run("private_texts", **paths)[0] == "success"
    assert len((tmp_path / "labels.txt").read_text().splitlines()) == 2

    # A failing run logs a traceback, its retries never come, and a new key in the same connection would help.
    platform.sandbox.revoke(KEY)
    state, tasks = platform.run("classify_one")
    platform.sandbox.add_key(KEY, plan="pro")
    assert (state, tasks["classify"][:2]) == ("failed", ("failed", 1))
    assert files_holding("AuthenticationError", platform.home)

    assert files_holding(KEY, platform.home) == []
    assert files_holding("diagnosis", platform.home) == []

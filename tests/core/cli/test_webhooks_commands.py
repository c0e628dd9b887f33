"""`classifaily webhooks list | show | redrive | prune | reconcile | rotate-secret | doctor`, over real parts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import ClassifailyClient
from classifaily_connectors.cli import main
from classifaily_connectors.sandbox import Sandbox, SandboxClock, Switches
from classifaily_connectors.store import Arrival, Inbox
from classifaily_connectors.webhooks import Receiver
from classifaily_connectors.webhooks.secrets import Secrets
from classifaily_connectors.webhooks.serving import Serving

pytestmark = pytest.mark.slow

SECRET = "whsec-for-the-tests-of-commands"
Command = Callable[..., Any]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    switches = Switches(job_delay=60.0, delivery_backoff=0.01)
    with Sandbox(plan="pro", clock=SandboxClock(frozen=True), switches=switches) as sandbox:
        yield sandbox


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/deliveries.db"


@pytest.fixture
def inbox(store: str) -> Iterator[Inbox]:
    with ExitStack() as stack:
        inbox = Inbox(store)
        stack.callback(inbox.close)
        yield inbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[ClassifailyClient]:
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        yield client


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def hooks(sandbox: Sandbox, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`classifaily webhooks WORD … --store …`, in this process (a new one costs a second); shows no secret."""
    settings = {"CLASSIFAILY_KEY": sandbox.key, "CLASSIFAILY_BASE_URL": sandbox.base_url, "COLUMNS": "200"}

    def hooks(*words: object, env: dict[str, str] | None = None) -> Ended:
        place = [] if words[0] == "rotate-secret" else ["--store", store]
        with monkeypatch.context() as patch:
            for name, value in {**settings, **(env or {})}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as caught:
                main(["webhooks", *map(str, words), *place])
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
        assert sandbox.key not in said.out + said.err
        return Ended(int(str(caught.value.code)), said.out, said.err)

    return hooks


def lines(ended: Any) -> list[dict[str, Any]]:
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def arrival(job_id: str, body: bytes, *, event: str = "job.completed", source: str = "default") -> Arrival:
    return Arrival(source, event, job_id, body[-16:], time.time(), None, body)


def told(job_id: str, label: str) -> bytes:
    result = {"label": label, "confidence": 0.9}
    return json.dumps({"event": "job.completed", "id": job_id, "result": result}).encode()


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)


# --- listing ------------------------------------------------------------------------------------


def test_a_process_of_its_own_lists_the_same(inbox: Inbox, hooks: Command, run: Command, store: str) -> None:
    inbox.put([arrival("5", b"{}")])
    assert run("webhooks", "list", "--store", store, "--json").out == hooks("list", "--json").out


def test_list_has_one_object_a_line(inbox: Inbox, hooks: Command) -> None:
    """Every listing command takes --json, one object a line, with at least event and job_id."""
    inbox.put([arrival(str(number), b'{"n":%d}' % number) for number in range(700)])
    inbox.put([arrival("7", b"{}", source="staging", event="batch.completed"), arrival("digest", b"\xff", event="")])
    inbox.expect("default", ["900", "901"], owner="a worker")
    rows = lines(hooks("list", "--json"))
    assert len(rows) == 702
    assert [row["job_id"] for row in rows[:700]] == list(map(str, range(700)))
    assert {"seq", "source", "event", "job_id", "state", "received_at", "repeats", "redriven"} <= rows[0].keys()
    assert [row["seq"] for row in lines(hooks("list", "--json", "--job-id", 7))] == [8, 701]
    assert [row["seq"] for row in lines(hooks("list", "--json", "--source", "staging"))] == [701]
    assert [row["event"] for row in lines(hooks("list", "--json", "--event", "batch.completed"))] == ["batch.completed"]
    assert [row["job_id"] for row in lines(hooks("list", "--json", "--state", "dead"))] == ["digest"]
    assert [row["seq"] for row in lines(hooks("list", "--json", "--after", 700))] == [701, 702]
    waiting = lines(hooks("list", "--json", "--waiting"))
    assert [(row["source"], row["job_id"], row["owner"]) for row in waiting] == [
        ("default", "900", "a worker"),
        ("default", "901", "a worker"),
    ]
    shown = hooks("list", "--after", 700)
    assert [line.split()[4] for line in shown.out.splitlines()] == ["staging", "default"]
    assert "by a worker" in hooks("list", "--waiting").out


def test_show_prints_the_body_until_it_is_pruned(inbox: Inbox, hooks: Command) -> None:
    inbox.put([arrival("5", told("5", "billing"))])
    assert json.loads(lines(hooks("show", 1, "--json"))[0]["body"])["result"]["label"] == "billing"
    assert "billing" in hooks("show", 1).out
    assert lines(hooks("prune", "--older-than", "1d", "--json")) == [{"dropped": 0}]
    assert hooks("prune", "--older-than", "0s").out == "1 bodies dropped\n"
    assert "pruned" in hooks("show", 1).out
    assert [row["job_id"] for row in lines(hooks("list", "--json"))] == ["5"]
    missing = hooks("show", 99)
    assert (missing.code, missing.out) == (2, "")
    assert "no delivery 99" in missing.err


def test_redrive_gives_a_new_number(inbox: Inbox, hooks: Command) -> None:
    inbox.put([arrival("5", b"{}"), arrival("6", b"{}")])
    assert [(row["seq"], row["job_id"], row["redriven"]) for row in lines(hooks("redrive", 1, "--json"))] == [
        (3, "5", 1)
    ]
    assert [row["seq"] for row in lines(hooks("redrive", "--job-id", 6, "--json"))] == [4]
    assert [each.job_id for each in inbox.after(2)] == ["5", "6"]
    assert hooks("redrive", 1).code == 2
    assert hooks("redrive").code == 2


# --- what needs the API -------------------------------------------------------------------------


def test_reconcile_settles_conflicts_and_expectations_by_the_api(
    sandbox: Sandbox, client: ClassifailyClient, inbox: Inbox, hooks: Command
) -> None:
    sandbox.script("invoice", "billing")
    jobs = [client.submit("invoice", categories=["billing", "other"]) for _ in range(4)]
    first, second, third, fourth = (str(job.id) for job in jobs)
    inbox.put([arrival(first, told(first, "forged")), arrival(second, b'{"id":"1","event":"job.completed"}')])
    truth = json.dumps({"event": "job.completed", "id": first, "result": {"label": "billing", "confidence": 0.97}})
    inbox.put([arrival(first, truth.encode())])
    inbox.expect("default", [second, third, fourth, "unknown"])
    open_yet = hooks("reconcile", "--json")
    assert (open_yet.code, open_yet.json["left"], open_yet.json["settled"]) == (4, 5, 1)
    sandbox.clock.advance(hours=1)
    done = hooks("reconcile", "--json")
    assert done.json == {"confirmed": 1, "refuted": 1, "settled": 2, "lost": 2, "left": 1}
    states = {row["digest"]: row["state"] for row in lines(hooks("list", "--json", "--job-id", first))}
    assert sorted(states.values()) == ["ok", "refuted"]
    held = inbox.find("default", [first])[first].body
    assert held == truth.encode()
    assert [each.job_id for each in inbox.expected()] == ["unknown"]
    again = hooks("reconcile")
    assert again.code == 4
    assert "1 left" in again.out


def test_rotation_refuses_no_delivery(
    sandbox: Sandbox, client: ClassifailyClient, store: str, inbox: Inbox, hooks: Command, tmp_path: Path
) -> None:
    """Deliveries go on while the secret is replaced; each is kept, none is refused."""
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"default": [SECRET], "staging": ["another-one-which-must-stay"]}))
    mode = file.stat().st_mode
    receiver = Receiver(store, Secrets({}, file=file))
    ids: list[str] = []

    def deliver_one() -> None:
        ids.append(str(client.submit(f"invoice {len(ids)}", categories=["a", "b"]).id))
        sandbox.clock.advance(hours=1)
        until(lambda: inbox.find("default", ids[-1:]))

    with Serving(receiver) as serving:
        client.webhooks.create(serving.url, secret=SECRET)
        deliver_one()
        words = ("rotate-secret", "--url", serving.url, "--secrets-file", file)
        begun = hooks(*words, "--json")
        assert begun.code == 0, begun.err
        assert (begun.json["secrets"], begun.json["deleted"]) == (2, [])
        deliver_one()
        finished = hooks(*words, "--finish")
        assert finished.code == 0, finished.err
        deliver_one()
        until(lambda: sum(each.status == 204 for each in sandbox.deliveries) == 4)
        assert [each.status for each in sandbox.deliveries] == [204] * 4  # the one in between came twice
        assert [each.url for each in client.webhooks.list()] == [serving.url]
        known = json.loads(file.read_text())
        assert known["staging"] == ["another-one-which-must-stay"]
        assert len(known["default"]) == 1
        assert known["default"] != [SECRET]
        assert known["default"][0] not in begun.out + finished.out
        assert file.stat().st_mode == mode
        refused = hooks(*words, "--finish")
        assert refused.code == 2
        assert "no rotation to finish" in refused.err
    assert hooks("rotate-secret", "--url", "https://example.com/").code == 2


def test_a_rotation_that_the_api_refuses_leaves_the_file_as_it_was(
    sandbox: Sandbox, hooks: Command, tmp_path: Path
) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(f"{SECRET}\n")
    sandbox.add_key(sandbox.key, plan="starter")
    ended = hooks("rotate-secret", "--url", "https://example.com/hook", "--secrets-file", file)
    assert ended.code == 1
    assert file.read_text() == f"{SECRET}\n"


def test_a_rotation_keeps_who_may_read_the_file_and_what_the_endpoint_hears(
    sandbox: Sandbox, client: ClassifailyClient, hooks: Command, tmp_path: Path
) -> None:
    real, file = tmp_path / "real.json", tmp_path / "secrets.json"
    real.write_text(json.dumps({"eu_west": [SECRET]}))
    real.chmod(0o640)
    if os.getuid() == 0:
        os.chown(real, 0, 65534)
    file.symlink_to(real)
    before = real.stat()
    url = "https://example.org/classifaily/webhooks/eu-west"
    client.webhooks.create(url, secret=SECRET, events=["job.failed"])
    ended = hooks("rotate-secret", "--url", url, "--secrets-file", file, "--source", "EU-West")
    assert ended.code == 0, ended.err
    after = real.stat()
    assert file.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [each.events for each in client.webhooks.list()] == [("job.failed",)] * 2
    assert json.loads(real.read_text())["eu_west"][1:] == [SECRET]


def test_a_rotation_is_not_finished_before_the_receiver_takes_the_new_secret(
    sandbox: Sandbox, client: ClassifailyClient, store: str, hooks: Command, tmp_path: Path
) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(SECRET)
    with Serving(Receiver(store, SECRET)) as serving:  # which reads no file
        client.webhooks.create(serving.url, secret=SECRET)
        words = ("rotate-secret", "--url", serving.url, "--secrets-file", file)
        assert hooks(*words).code == 0
        before = file.read_text()
        refused = hooks(*words, "--finish")
        assert refused.code == 2
        assert "does not take a delivery that is signed with the new secret (it answers 401)" in refused.err
        assert (len(client.webhooks.list()), file.read_text()) == (2, before)
        assert hooks(*words, "--finish", "--no-ping").code == 0
    assert len(client.webhooks.list()) == 1


@pytest.mark.parametrize("text", ["CLASSIFAILY_WEBHOOK_SECRET=0123456789abcdef\nOTHER=1\n", "{", "short"])
def test_a_file_that_is_no_file_of_secrets_is_not_rewritten(text: str, hooks: Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    assert hooks("rotate-secret", "--url", "https://example.org/hook", "--secrets-file", file).code == 2
    assert file.read_text() == text


def test_doctor_pings_through_the_public_address(
    sandbox: Sandbox, client: ClassifailyClient, store: str, inbox: Inbox, hooks: Command
) -> None:
    env = {"CLASSIFAILY_WEBHOOK_SECRET": SECRET}
    nothing = {each["name"]: each for each in hooks("doctor", "--json").json}
    assert nothing["endpoints"]["level"] == "warning"
    assert nothing["secret"]["level"] == "bad"
    with Serving(Receiver(store, SECRET)) as serving:
        client.webhooks.create(serving.url, secret=SECRET)
        lost = client.submit("lost", categories=["a", "b"])
        sandbox.clock.advance(hours=1)
        until(lambda: sandbox.deliveries)
        inbox.expect("default", [str(lost.id)])
        inbox.settle("default", [str(lost.id)], by="poll")
        well = hooks("doctor", "--json", env=env)
        assert well.code == 0, well.out
        found = {each["name"]: each for each in well.json}
        assert found["endpoint"]["detail"] == f"{serving.url} for *"
        assert (found["ping"]["level"], found["lost webhooks"]["level"]) == ("good", "warning")
        assert "1 of 1" in found["lost webhooks"]["detail"]
        assert [each.event for each in inbox.entries(event="classifaily.ping")] == ["classifaily.ping"]
        wrong = hooks("doctor", "--json", env={"CLASSIFAILY_WEBHOOK_SECRET": "some-secret-that-is-not-ours"})
        assert wrong.code == 1
        assert "another secret" in {each["name"]: each for each in wrong.json}["ping"]["detail"]
        elsewhere = hooks("doctor", "--url", f"{serving.url}/nowhere", env=env)
        assert elsewhere.code == 1
        assert "404" in elsewhere.out
    down = hooks("doctor", "--json", env=env)
    assert down.code == 1
    assert "does not answer" in {each["name"]: each for each in down.json}["ping"]["detail"]


def test_doctor_tells_of_deliveries_that_were_refused(
    sandbox: Sandbox, client: ClassifailyClient, store: str, hooks: Command
) -> None:
    """The API signs with another secret than the receiver knows: a ping of ours gets through, and nothing else."""
    env = {"CLASSIFAILY_WEBHOOK_SECRET": SECRET}
    with Serving(Receiver(store, SECRET)) as serving:
        client.webhooks.create(serving.url, secret="quite-another-secret-0123456789")
        client.submit("my invoice", categories=["billing", "technical"])
        sandbox.clock.advance(hours=1)
        until(lambda: sandbox.deliveries)
        found = {each["name"]: each for each in hooks("doctor", "--json", env=env).json}
    assert found["ping"]["level"] == "good"
    assert found["receiver"]["level"] == "good"
    assert found["refusals"]["level"] == "warning"
    assert "another secret than ours" in found["refusals"]["detail"]
    assert "rotate-secret" in found["refusals"]["detail"]


def test_doctor_says_when_the_receiver_tells_nothing_of_itself(hooks: Command, canned: Any) -> None:
    env = {"CLASSIFAILY_WEBHOOK_SECRET": SECRET}
    canned.say(204).say(404)
    found = {each["name"]: each for each in hooks("doctor", "--json", "--url", f"{canned.url}/hooks", env=env).json}
    assert found["receiver"]["level"] == "warning"
    assert "/-/health" in found["receiver"]["detail"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:{0}@127.0.0.1:9/db",
        "postgresql://127.0.0.1:9/db?user=me&password={0}",
        "postgresql+psycopg://127.0.0.1:9/db?sslpassword={0}",
        "postgres://me:p@{0}:x@127.0.0.1:9/db",
    ],
)
@pytest.mark.parametrize("words", [("webhooks", "list"), ("doctor",)])
def test_no_command_shows_the_stores_password(
    words: tuple[str, ...], url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", SECRET)
    option = "--ledger" if words == ("doctor",) else "--store"
    with pytest.raises(SystemExit):
        main([*words, option, url.format("pass%2Fword-xyz")])
    said = capsys.readouterr()
    for form in ("pass%2Fword-xyz", "pass/word-xyz", "word-xyz"):
        assert form not in said.out + said.err


def test_deliveries_are_redriven_by_filter(inbox: Inbox, hooks: Command) -> None:
    now = time.time()
    rows = [("default", "job.completed", "1", now), ("eu_west", "job.failed", "2", now - 86400 * 3)]
    rows += [("default", "job.completed", "3", now - 86400 * 3)]
    inbox.put([Arrival(source, event, name, name.encode(), at, None, b"{}") for source, event, name, at in rows])
    inbox.put([Arrival("default", "", "d" * 64, b"d", now, None, b'\xef\xbb\xbf{"event":"job.failed","id":"4"}')])

    def redriven(*words: str) -> list[str]:
        ended = hooks("redrive", *words, "--json")
        assert ended.code == 0, ended.err
        return [json.loads(each)["job_id"] for each in ended.out.splitlines()]

    assert redriven("--event", "job.completed", "--since", "1d") == ["1"]
    assert redriven("--source", "EU-West") == ["2"]
    assert redriven("--event", "job.completed") == ["3", "1"]
    assert redriven("--state", "dead") == ["4"]
    assert hooks("redrive").code == 2
    assert hooks("redrive", "--event", "nothing").code == 2
    assert (hooks("reread").code, hooks("reread").err) == (0, "")


def test_dead_letters_that_stay_are_counted(inbox: Inbox, hooks: Command) -> None:
    inbox.put([Arrival("default", "", "d" * 64, b"d", time.time(), None, b"junk")])
    ended = hooks("reread")
    assert ended.code == 4
    assert "1 dead letters cannot be read" in ended.err


def test_a_place_of_another_store_is_said(inbox: Inbox, hooks: Command) -> None:
    inbox.put([Arrival("default", "job.completed", "1", b"1", time.time(), None, b"{}")])
    [row] = [json.loads(each) for each in hooks("list", "--json").out.splitlines()]
    assert row["cursor"] == f"1@{inbox.identity}"
    assert (hooks("list", "--json", "--after", row["cursor"]).out, hooks("list", "--after", "1").out) == ("", "")
    for place in ("500", "1@another"):
        ended = hooks("list", "--json", "--after", place)
        assert len(ended.out.splitlines()) == 1
        assert "none of this store's" in ended.err
    assert hooks("list", "--after", "x").code == 2

"""Every public call of the core, crossed with everything that breaks under it.

Whatever breaks, what leaves is an error of ours. It says what was paid, which is held against the server's bill, and
what to do; and neither the error nor the log shows a password, a key, a signature or an input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import RetryPolicy, transport
from classifaily_connectors.bulk import contact, desk
from classifaily_connectors.store import database
from tests.faults.sweep import public_calls as public
from tests.faults.sweep import tables
from tests.faults.sweep.examples import EXAMPLES, NETWORK, STORE, TABLES, Example
from tests.faults.sweep.judging import Ending, faults_of_ending
from tests.faults.sweep.networks import NOBODY_THERE, ODD_ANSWERS, ON_THE_WAY, Road
from tests.faults.sweep.stage import Stage, Theatre
from tests.faults.sweep.stores import IN_TROUBLE, NO_ADDRESS, NO_SERVER, NO_STORE, Trouble, cut_wire

if TYPE_CHECKING:
    from conftest import Exchange, FaultServer

pytestmark = pytest.mark.timeout(300)
_HANDLES = ("ledger", "inbox", "feed", "sandbox")
"""What is made on a store while it is well; the other calls open it themselves."""


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    with ExitStack() as stack:
        yield Theatre(tmp_path_factory.mktemp("theatre"), stack)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(transport, "WRITE_TIMEOUT", 1.0)
    monkeypatch.setattr(contact, "FIRST_CONTACT", 0.1)
    monkeypatch.setattr(desk, "PATIENCE", 0.2)
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.01)
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    for name in ("classifaily_connectors", "httpx", "httpcore", "asyncio", "sqlalchemy.engine"):
        caplog.set_level(logging.DEBUG, logger=name)


class Sweep:
    """Makes calls, and collects what is wrong with how they end."""

    def __init__(self, theatre: Theatre, folder: Path, log: pytest.LogCaptureFixture) -> None:
        self._theatre, self._folder, self._log = theatre, folder, log
        self.url = f"{theatre.sandbox.root_url}"
        self.problems: list[str] = []
        self.raised: set[str] = set()

    def stage(self, name: str, url: str | None = None, **options: Any) -> Stage:
        folder = self._folder / name.replace("()", "") / str(len(self.raised))
        folder.mkdir(parents=True, exist_ok=True)
        return Stage(self._theatre, folder, url or self.url, **options)

    def call(self, name: str, stage: Stage, breaks: Callable[[], object] = lambda: None) -> BaseException | None:
        """What the call raised, with its faults noted."""
        before = self._theatre.billed()
        self._log.clear()
        error, result = None, None
        with stage:
            try:
                result = stage.call(EXAMPLES[name], breaks)
            except Exception as caught:  # noqa: BLE001  # that is what is looked for
                error = caught
                self.raised.add(name)
        ending = Ending(result, error, self._log.text, self._theatre.billed() - before)
        self._log.clear()
        self.problems += [f"{name}: {each}" for each in faults_of_ending(ending, pays=EXAMPLES[name].pays)]
        return error

    def check(self) -> None:
        """Fail with all problems, one a line."""
        if self.problems:
            pytest.fail("\n".join(self.problems), pytrace=False)


@pytest.fixture
def sweep(theatre: Theatre, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Sweep:
    return Sweep(theatre, tmp_path, caplog)


def needing(what: str) -> dict[str, Example]:
    """The examples that need it, each once: some calls are two names for one."""
    named = {(each.call, each.subject): name for name, each in reversed(EXAMPLES.items()) if what in each.needs}
    return {name: EXAMPLES[name] for name in reversed(named.values())}


# --- the list is whole ---------------------------------------------------------------------------


def test_every_public_call_has_an_example() -> None:
    assert sorted(public.public_calls() - EXAMPLES.keys()) == [], "these public calls have no example in the sweep"
    assert sorted(EXAMPLES.keys() - public.public_calls()) == [], "these examples are of no public call"


def test_every_list_of_public_names_is_known() -> None:
    assert public.modules_with_all() == {*public.PUBLIC, *public.INTERNAL}


def test_where_nothing_is_broken_every_call_ends_well(sweep: Sweep, server: FaultServer, theatre: Theatre) -> None:
    """An example that fails by itself would prove nothing."""
    server.acts = [Road(theatre).good]
    for name in EXAMPLES:
        error = sweep.call(name, sweep.stage(name, server.url.removesuffix("/v1")))
        if error is not None and not name.endswith("wait_for_job"):  # which waits for a job that does not end
            sweep.problems.append(f"{name}: {type(error).__name__}: {error}")
    sweep.check()


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("breakage", ON_THE_WAY)
def test_a_network_that_breaks_on_the_way(breakage: str, sweep: Sweep, server: FaultServer, theatre: Theatre) -> None:
    server.acts = [ON_THE_WAY[breakage](Road(theatre))]
    for name in needing(NETWORK):
        sweep.call(name, sweep.stage(name, server.url.removesuffix("/v1")))
    # The rows of a bulk run that are lost are rows; and what is deleted says nothing more.
    silent = {name for name, each in needing(NETWORK).items() if STORE in each.needs or name.endswith(".delete")}
    assert needing(NETWORK).keys() - sweep.raised <= silent
    sweep.check()


@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_an_answer_that_is_not_the_apis(answer: str, sweep: Sweep, server: FaultServer, theatre: Theatre) -> None:
    server.acts = [ODD_ANSWERS[answer](Road(theatre))]
    for name, example in needing(NETWORK).items():
        if (STORE not in example.needs or example.pays) and "axes" not in name:
            sweep.call(name, sweep.stage(name, server.url.removesuffix("/v1")))
    sweep.check()


@pytest.mark.parametrize("breakage", NOBODY_THERE)
def test_a_network_in_which_nobody_is_reached(breakage: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    with NOBODY_THERE[breakage](monkeypatch) as url:
        for name in needing(NETWORK):
            sweep.call(name, sweep.stage(name, url))
    assert all("plan" in name for name in needing(NETWORK).keys() - sweep.raised)
    sweep.check()


def _bulk() -> list[str]:
    return [name for name, each in needing(STORE).items() if each.pays]


@pytest.mark.parametrize("breakage", ON_THE_WAY)
def test_a_network_that_breaks_after_the_first_answer(
    breakage: str, sweep: Sweep, server: FaultServer, theatre: Theatre
) -> None:
    road = Road(theatre)
    for name in _bulk():
        breaks_after(server, road, ON_THE_WAY[breakage](road))
        sweep.call(name, sweep.stage(name, server.url.removesuffix("/v1")))
    sweep.check()


def breaks_after(server: FaultServer, road: Road, then: Callable[[Exchange], None]) -> None:
    """Let everything pass up to the first answer to a POST; `then` treats what comes later."""
    paid: list[bool] = []

    def act(exchange: Exchange) -> None:
        if paid:
            then(exchange)
            return
        if exchange.head.startswith(b"POST"):
            paid.append(True)
        road.good(exchange)

    server.acts = [act]


# --- the store -----------------------------------------------------------------------------------


def _openers() -> list[str]:
    return [name for name, each in needing(STORE).items() if each.subject not in _HANDLES]


@pytest.mark.parametrize("breakage", NO_STORE)
def test_a_store_that_cannot_be_opened(breakage: str, sweep: Sweep) -> None:
    for name in _openers():
        stage = sweep.stage(name)
        stage.store = NO_STORE[breakage](Path(stage.file))
        sweep.call(name, stage)
    assert set(_openers()) - sweep.raised <= SILENT | OWN_FILE
    sweep.check()


UNNOTICED = ("full", "replaced")
"""A little may still find room in a file that is full; and a file that was put back is opened anew."""
SILENT = {"Receiver.__call__", "check_job", "acheck_job"}
"""The receiver answers 503, as senders want it; who looks for a job logs that its store is down, and asks the API."""
OWN_FILE = {"Sandbox()", "create_app", "Sandbox.add_key", "Sandbox.revoke", "Sandbox.lapse", "Sandbox.reset_bill"}
"""The sandbox keeps other things than a ledger in its file, and remembers for a test's time alone."""


@pytest.mark.parametrize("breakage", NO_SERVER)
def test_a_server_that_cannot_be_reached(breakage: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    with NO_SERVER[breakage](monkeypatch) as url:
        for name in {*_openers()} - OWN_FILE:
            stage = sweep.stage(name)
            stage.store = url
            sweep.call(name, stage)
    assert {*_openers()} - sweep.raised <= SILENT | OWN_FILE
    sweep.check()


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_a_url_that_is_no_stores(url: str, sweep: Sweep) -> None:
    for name in {*_openers()} - OWN_FILE:
        stage = sweep.stage(name)
        stage.store = url
        sweep.call(name, stage)
    assert {*_openers()} - sweep.raised <= SILENT | OWN_FILE
    sweep.check()


@pytest.mark.parametrize("breakage", IN_TROUBLE)
def test_a_store_that_gets_into_trouble(breakage: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = Trouble(monkeypatch)
    for name, example in needing(STORE).items():
        stage = sweep.stage(name, opened=True)
        file = Path(f"{stage.file}{'.sandbox' if example.subject == 'sandbox' else ''}")
        sweep.call(name, stage, lambda file=file: IN_TROUBLE[breakage](trouble)(file))
        trouble.end()
    if breakage not in UNNOTICED:
        assert {"Ledger.claim", "Inbox.put", "classify_table", "submit_once"} <= sweep.raised
    sweep.check()


@pytest.mark.parametrize("opened", [True, False], ids=["open", "by URL"])
@pytest.mark.parametrize("breakage", IN_TROUBLE)
def test_a_store_that_gets_into_trouble_while_it_is_paid(
    breakage: str, opened: bool, sweep: Sweep, server: FaultServer, theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble, road = Trouble(monkeypatch), Road(theatre)
    for name in _bulk():
        stage = sweep.stage(name, server.url.removesuffix("/v1"), opened=opened)
        broken: list[bool] = []

        def act(exchange: Exchange, file: Path = Path(stage.file), broken: list[bool] = broken) -> None:
            answer = road.pass_on(exchange)
            if exchange.head.startswith(b"POST") and not broken:
                broken.append(True)
                IN_TROUBLE[breakage](trouble)(file)
            exchange.sock.sendall(answer)

        server.acts = [act]
        sweep.call(name, stage)
        trouble.end()
    if breakage not in (*UNNOTICED, "garbled"):  # what is read again comes from memory
        assert sweep.raised == set(_bulk())
    sweep.check()


@pytest.mark.slow
def test_a_wire_to_postgresql_that_is_cut(sweep: Sweep, postgres: Callable[[], str]) -> None:
    for name in {*needing(STORE)} - OWN_FILE:
        stage = sweep.stage(name, opened=True)
        sweep.call(name, stage, cut_wire(stage, postgres()))
    assert {*needing(STORE)} - sweep.raised <= SILENT | OWN_FILE
    sweep.check()


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("breakage", tables.SOURCES)
def test_a_source_that_is_broken(breakage: str, sweep: Sweep) -> None:
    for name in needing(TABLES):
        stage = sweep.stage(name)
        tables.SOURCES[breakage](stage)
        sweep.call(name, stage)
    assert sweep.raised == needing(TABLES).keys()
    sweep.check()


@pytest.mark.parametrize("breakage", tables.OUTPUTS)
def test_an_output_that_cannot_be_written(breakage: str, sweep: Sweep) -> None:
    for name in ("classify_table", "aclassify_table"):
        stage = sweep.stage(name)
        tables.OUTPUTS[breakage](stage)
        sweep.call(name, stage)
    assert len(sweep.raised) == 2
    sweep.check()


@pytest.mark.parametrize("scheme", ["https", "signed"])
@pytest.mark.parametrize("error", tables.ERRORS)
def test_a_storage_that_fails(error: type[Exception], scheme: str, sweep: Sweep, theatre: Theatre) -> None:
    for name in needing(TABLES):
        for step in (*tables.READING, *(() if "plan" in name else tables.WRITING)):
            stage = sweep.stage(name)
            source, output = tables.store_in_objects(scheme)
            stage.source, stage.output = (source, stage.output) if step in tables.READING else (stage.source, output)
            tables.Storage.fails_at, tables.Storage.error = step, error
            if sweep.call(name, stage) is None and step != "info":
                sweep.problems.append(f"{name}: nothing was raised at {step}")
    sweep.check()

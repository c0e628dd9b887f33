"""Neither the key nor the input is in anything Prefect stores, logs or prints; after good runs and after bad ones."""

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import State, flow, unmapped
from prefect.client.orchestration import get_client
from prefect.utilities.annotations import quote
from pydantic import SecretStr

from classifaily_connectors.sandbox import Fault, Sandbox
from prefect_classifaily import (
    ClassifailyCredentials,
    aclassify,
    classify,
    classify_batch,
    classify_table,
    get_usage,
    submit_job,
    wait_for_job,
)

KEY = "cai_live_5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"
INPUT = "Zebrafinch, I was charged twice for my subscription."
SHOWN = re.compile("5ec2e7|zebrafinch", re.IGNORECASE)
TEAMS = ["billing", "technical"]


@pytest.fixture
def block(sandbox: Sandbox) -> ClassifailyCredentials:
    sandbox.add_key(KEY, plan="pro")
    return ClassifailyCredentials(api_key=KEY, base_url=sandbox.base_url)


@flow
def good(credentials: ClassifailyCredentials, output: Path) -> None:
    kept = {"persist_result": True}
    classify.with_options(**kept)(INPUT, credentials=credentials, categories=TEAMS, explain=True)
    classify.map([INPUT, INPUT], credentials=unmapped(credentials), categories=unmapped(TEAMS)).result()
    classify_batch.with_options(**kept).submit(quote([INPUT]), credentials=credentials, categories=TEAMS).result()
    asyncio.run(aclassify(INPUT, credentials=credentials))
    table = classify_table.with_options(**kept)
    rows = quote([{"body": INPUT}])
    table(rows, output, text="body", credentials=credentials, categories=TEAMS, explain=True)
    job = submit_job.with_options(**kept)(INPUT, credentials=credentials, categories=TEAMS)
    wait_for_job(job, credentials=credentials)
    get_usage(credentials=credentials)


def test_after_a_good_run(server: Any, block: ClassifailyCredentials, capfd: Any, caplog: Any, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    block.store_url = SecretStr(f"sqlite:///{server.home / 'ledger.db'}")
    state = good(block, tmp_path / "labelled.csv", return_state=True)
    assert state.is_completed()
    assert_nothing_shown(server, state, capfd, caplog)


def reset(sandbox: Sandbox) -> None:
    sandbox.inject(Fault(kind="reset", times=None))


def quota(sandbox: Sandbox) -> None:
    sandbox.add_key(KEY, plan="pro", used=100_000)


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (reset, "OutcomeUnknownError: no complete answer"),
        (quota, "QuotaExceededError: "),
        (lambda sandbox: sandbox.revoke(KEY), "AuthenticationError: "),
        (lambda sandbox: sandbox.inject(Fault(kind="html_502", times=None)), "OutcomeUnknownError: a gateway"),
        (lambda sandbox: sandbox.inject(Fault(kind="cut", times=None)), "OutcomeUnknownError: no complete answer"),
    ],
)
@pytest.mark.parametrize("how", ["sync", "async", "mapped"])
def test_after_a_failed_run(  # pytest's
    server: Any,
    block: ClassifailyCredentials,
    sandbox: Sandbox,
    prepare: Callable[[Sandbox], None],
    told: str,
    how: str,
    until: Callable[..., Any],
    capfd: Any,
    caplog: Any,
) -> None:
    @flow(name=f"bad-{how}")
    def bad(credentials: ClassifailyCredentials) -> None:
        if how == "sync":
            classify(INPUT, credentials=credentials, categories=TEAMS)
        elif how == "async":
            asyncio.run(aclassify(INPUT, credentials=credentials, categories=TEAMS))
        else:
            classify_batch.map([[INPUT], [INPUT]], credentials=unmapped(credentials)).result()

    caplog.set_level(logging.DEBUG)
    prepare(sandbox)
    state = bad(block, return_state=True)
    assert told in str(state.message)
    assert_nothing_shown(server, state, capfd, caplog)

    async def task_states() -> list[str]:
        async with get_client() as client:
            runs = await client.read_task_runs()
            mine = [each for each in runs if each.flow_run_id == state.state_details.flow_run_id]
            return [str(each.state.message) for each in mine if each.state]

    # The server hears of task states a little later.
    until(lambda: (messages := asyncio.run(task_states())) and all(told in message for message in messages))


def assert_nothing_shown(server: Any, state: State[Any], capfd: Any, caplog: Any) -> None:
    """Looks once the run's last log line is in the database."""
    run_id = state.state_details.flow_run_id
    last = "Finished in state Completed" if state.is_completed() else "Encountered exception during execution"
    stored = server.stored_once(str(run_id), last, str(state.id))
    printed = capfd.readouterr()
    for where, text in {"stored": stored, "out": printed.out, "err": printed.err, "log": caplog.text}.items():
        found = SHOWN.search(text)
        assert not found, f"{where}: {text[max(0, found.start() - 300) : found.end() + 50]}"
    assert "get_usage" in stored or not state.is_completed()

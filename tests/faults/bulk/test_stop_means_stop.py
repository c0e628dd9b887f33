"""However a run is stopped: nothing more is bought, nothing is paid twice, and what was paid has its answer.

Each way stops a run while its requests are under way; the same rows are asked for again afterwards. The last test
prints the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, StoppedError
from classifaily_connectors.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from classifaily_connectors import AsyncBulkRun, BulkRun
    from classifaily_connectors.bulk.prepare import ManyOptions

pytestmark = pytest.mark.slow

ROWS = [f"stopped {n} charged" for n in range(400)]
CATEGORIES = ["billing", "technical"]
BATCH, CONCURRENCY = 10, 4
UNDER_WAY = 0.6
"""Seconds for which each request is under way."""


class Found(NamedTuple):
    """What came of a stop."""

    bought_after: int
    twice: int
    unknown: int


class Stall:
    """A sandbox that takes its time, a ledger, and the rows between them."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.ledger = f"sqlite:///{folder}/ledger.db"
        self.sandbox.inject(Fault(kind="delay", method="POST", path="/batch", seconds=UNDER_WAY, times=None))
        self.sent_at_the_stop: int | None = None

    @property
    def options(self) -> ManyOptions:
        return {"ledger": self.ledger, "batch_size": BATCH, "concurrency": CONCURRENCY}

    def sent(self) -> int:
        return sum(each.method == "POST" for each in self.sandbox.requests)

    def client(self) -> ClassifailyClient:
        return ClassifailyClient(self.sandbox.key, base_url=self.sandbox.base_url)

    def aclient(self) -> AsyncClassifailyClient:
        return AsyncClassifailyClient(self.sandbox.key, base_url=self.sandbox.base_url)

    def run(self, client: ClassifailyClient, rows: Any = ROWS) -> BulkRun:
        return client.classify_many(rows, categories=CATEGORIES, **self.options)

    def arun(self, client: AsyncClassifailyClient, rows: Any = ROWS) -> AsyncBulkRun:
        return client.classify_many(rows, categories=CATEGORIES, **self.options)

    def is_amid(self) -> bool:
        """Whether some rows were paid and others are under way."""
        return self.sandbox.bill().charged >= BATCH * CONCURRENCY and self.sent() > CONCURRENCY

    def stop_now(self) -> None:
        self.sent_at_the_stop = self.sent()

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while not self.is_amid() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(UNDER_WAY / 4)  # between two rounds of requests
        self.stop_now()

    async def await_(self) -> None:
        await asyncio.to_thread(self.wait)

    def python(self, code: str) -> subprocess.Popen[str]:
        head = "import sys\nfrom classifaily_connectors import ClassifailyClient, AsyncClassifailyClient\n"
        head += f"key, url, ledger = sys.argv[1:]\nrows = [f'stopped {{n}} charged' for n in range({len(ROWS)})]\n"
        head += (
            f"options = dict(categories={CATEGORIES}, ledger=ledger, batch_size={BATCH}, concurrency={CONCURRENCY})\n"
        )
        command = [sys.executable, "-c", f"{head}\n{code}", self.sandbox.key, self.sandbox.base_url, self.ledger]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def command(self) -> subprocess.Popen[str]:
        source = self.folder / "t.csv"
        source.write_text("body\n" + "".join(f"{row}\n" for row in ROWS))
        words = ["classify", source, "--text", "body", "--categories", ",".join(CATEGORIES), "--out", "o.csv"]
        words += ["--ledger", self.folder / "ledger.db", "--batch-size", BATCH, "--concurrency", CONCURRENCY]
        environment = os.environ | {"CLASSIFAILY_KEY": self.sandbox.key, "CLASSIFAILY_BASE_URL": self.sandbox.base_url}
        return subprocess.Popen(
            [Path(sys.executable).with_name("classifaily"), *map(str, words)],
            cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def again(self, **options: Any) -> Found:
        """The same rows once more."""
        assert self.sent_at_the_stop is not None
        bought_after = (self.sent() - self.sent_at_the_stop) * BATCH
        self.sandbox.clear_faults()
        with self.client() as client:
            many: Any = {**self.options, **options}
            rows = list(client.classify_many(ROWS, categories=CATEGORIES, **many))
        twice = sum(times > 1 for times in self.sandbox.bill().by_input.values())
        return Found(bought_after, twice, sum(row.status != "completed" for row in rows))


@pytest.fixture
def stall(tmp_path: Path) -> Iterator[Stall]:
    with Sandbox(plan="pro") as sandbox:
        yield Stall(sandbox, tmp_path)


# --- ways to stop ---------------------------------------------------------------------------------


async def _consume(stall: Stall) -> None:
    async with stall.aclient() as client:
        async for _row in stall.arun(client):
            pass


async def asyncio_cancel(stall: Stall) -> None:
    task = asyncio.create_task(_consume(stall))
    await stall.await_()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def asyncio_cancel_again_and_again(stall: Stall) -> None:
    task = asyncio.create_task(_consume(stall))
    await stall.await_()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)


async def asyncio_timeout(stall: Stall) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as clock:

            async def expire() -> None:
                await stall.await_()
                clock.reschedule(asyncio.get_running_loop().time())

            expiring = asyncio.create_task(expire())
            await _consume(stall)
    await expiring


async def task_group(stall: Stall) -> None:
    async def fail() -> None:
        await stall.await_()
        raise ZeroDivisionError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_consume(stall))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await both()


async def anyio_scope(stall: Stall) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await stall.await_()
            scope.cancel()

        cancelling = asyncio.create_task(cancel())
        await _consume(stall)
    await cancelling


async def anyio_timeout_without_closing(stall: Stall) -> None:
    """Nobody closes the client: the loop's end finds the run half-way."""
    client = stall.aclient()
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await stall.await_()
            scope.cancel()

        cancelling = asyncio.create_task(cancel())
        async for _row in stall.arun(client):
            pass
    await cancelling


async def response_whose_client_left(stall: Stall) -> None:
    """As a web framework does: the answer is streamed in a task group that ends when the other side has gone."""

    async def stream() -> AsyncIterator[str]:
        async with stall.aclient() as client:
            async for row in stall.arun(client):
                yield f"{row.label}\n"

    async def respond() -> None:
        async for _chunk in stream():
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(respond)
        await stall.await_()
        group.cancel_scope.cancel()


async def loop_ends_half_way(stall: Stall) -> None:
    rows = aiter(stall.arun(stall.aclient()))
    await anext(rows)
    await stall.await_()


def generator_closed(stall: Stall) -> None:
    with stall.client() as client:
        rows = iter(stall.run(client))
        next(rows)
        stall.wait()
        rows.close()  # type: ignore[attr-defined]


def client_closed(stall: Stall) -> None:
    client = stall.client()
    rows = iter(stall.run(client))
    next(rows)
    stall.wait()
    client.close()


def told_to_stop(stall: Stall) -> None:
    import threading

    with stall.client() as client:
        run = stall.run(client)

        def tell() -> None:
            stall.wait()
            run.stop()

        thread = threading.Thread(target=tell)
        thread.start()
        with pytest.raises(StoppedError):
            list(run)
        thread.join()


def source_raises(stall: Stall) -> None:
    def source() -> Iterator[str]:
        yield from ROWS[:200]
        stall.wait()
        raise ZeroDivisionError

    with stall.client() as client, pytest.raises(ZeroDivisionError):
        list(stall.run(client, source()))


def collected_in_another_thread(stall: Stall) -> None:
    """A collector runs wherever it happens to: in a thread of the run's own, too."""
    import threading

    held: list[Any] = [iter(stall.run(stall.client()))]
    next(held[0])
    stall.wait()
    thread = threading.Thread(target=held.clear, name="classifaily-bulk")
    thread.start()
    thread.join()
    deadline = time.monotonic() + 60
    while stall.sandbox.bill().charged < stall.sent() * BATCH and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(UNDER_WAY)


_LOOP = "for row in ClassifailyClient(key, base_url=url).classify_many(rows, **options): pass\n"


def _signalled(stall: Stall, process: subprocess.Popen[str], *numbers: int) -> subprocess.Popen[str]:
    stall.wait()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    process.communicate(timeout=60)
    return process


def sigint_in_a_script(stall: Stall) -> None:
    reset = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    assert _signalled(stall, stall.python(reset + _LOOP), signal.SIGINT).returncode != 0


def script_that_ends(stall: Stall) -> None:
    code = "rows = iter(ClassifailyClient(key, base_url=url).classify_many(rows, **options))\nnext(rows)\ninput()\n"
    with stall.python(code) as process:
        stall.wait()
        process.communicate("\n", timeout=30)


def _cli(*numbers: int) -> Callable[[Stall], None]:
    def stop(stall: Stall) -> None:
        process = _signalled(stall, stall.command(), *numbers)
        assert process.returncode == 128 + numbers[0]

    return stop


WAYS: dict[str, Callable[[Stall], Awaitable[None] | None]] = {
    "asyncio: task.cancel()": asyncio_cancel,
    "asyncio: cancelled again and again": asyncio_cancel_again_and_again,
    "asyncio.timeout": asyncio_timeout,
    "asyncio.TaskGroup": task_group,
    "anyio: cancelled scope": anyio_scope,
    "anyio: and nobody closes": anyio_timeout_without_closing,
    "a streamed response": response_whose_client_left,
    "the loop ends": loop_ends_half_way,
    "generator closed": generator_closed,
    "client closed": client_closed,
    "run.stop()": told_to_stop,
    "collected elsewhere": collected_in_another_thread,
    "the source raises": source_raises,
    "the script ends": script_that_ends,
    "script: SIGINT": sigint_in_a_script,
    "command: SIGINT": _cli(signal.SIGINT),
    "command: SIGTERM": _cli(signal.SIGTERM),
    "command: SIGHUP": _cli(signal.SIGHUP),
    "command: SIGTERM twice at once": _cli(signal.SIGTERM, signal.SIGTERM),
    "command: SIGINT and SIGTERM": _cli(signal.SIGINT, signal.SIGTERM),
}
_table: dict[str, Found] = {}


@pytest.mark.parametrize("way", WAYS)
def test_it_stops_the_buying_and_loses_nothing(stall: Stall, way: str) -> None:
    stop = WAYS[way](stall)
    if stop is not None:

        async def go() -> None:
            await stop

        asyncio.run(go())
    _table[way] = stall.again()
    assert _table[way] == Found(0, 0, 0)


def test_kill_9_is_settled_by_the_next_run(stall: Stall) -> None:
    """What was under way is an open question, which the API's history answers."""
    process = stall.python(_LOOP)
    stall.wait()
    process.kill()
    process.communicate(timeout=30)
    time.sleep(UNDER_WAY)
    _table["kill -9"] = stall.again(settle_after=0.1)
    assert _table["kill -9"] == Found(0, 0, 0)


def test_a_second_signal_ends_at_once_and_says_what_it_costs(stall: Stall) -> None:
    stall.sandbox.clear_faults()
    stall.sandbox.inject(Fault(kind="delay", method="POST", path="/batch", seconds=20.0, nth=5, times=None))
    process = stall.command()
    while stall.sent() < 5 + CONCURRENCY - 1:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _out, said = process.communicate(timeout=15)
    assert process.returncode == 143
    assert "once more ends it at once" in said
    assert "inputs may have been paid without an answer" in said


def test_the_table() -> None:
    print(f"\n{'stopped by':34} {'bought after':>13} {'paid twice':>11} {'no answer':>10}")
    for way, found in _table.items():
        print(f"{way:34} {found.bought_after:13} {found.twice:11} {found.unknown:10}")
    assert all(found == Found(0, 0, 0) for found in _table.values())

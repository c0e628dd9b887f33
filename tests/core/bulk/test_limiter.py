"""Places grow while latency is flat, halve when the server suffers, and never get stuck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from classifaily_connectors.bulk.limiter import START, Limiter


def _round(limiter: Limiter, seconds: float) -> None:
    for _ in range(limiter.size):
        limiter.observe(seconds)


def test_it_doubles_while_nothing_gets_slower() -> None:
    limiter = Limiter(64)
    sizes = [limiter.size]
    while limiter.size < 64:
        _round(limiter, 0.2)
        sizes.append(limiter.size)
    assert sizes == [START, 16, 32, 64]
    _round(limiter, 0.2)
    assert limiter.size == 64


def test_it_halves_at_every_failure_and_then_grows_by_one() -> None:
    limiter = Limiter(64)
    while limiter.size < 32:
        _round(limiter, 0.2)
    limiter.suffer()
    assert limiter.size == 16
    _round(limiter, 0.2)
    assert limiter.size == 17
    for _ in range(10):
        limiter.suffer()
    assert limiter.size == 1


def test_it_stops_growing_when_answers_get_slower() -> None:
    limiter = Limiter(64)
    _round(limiter, 0.2)
    assert limiter.size == 16
    _round(limiter, 0.36)
    assert limiter.size == 16
    _round(limiter, 0.9)
    assert limiter.size < 16


def test_a_server_that_stays_slower_does_not_starve_the_run() -> None:
    limiter = Limiter(16)
    for _ in range(3):
        _round(limiter, 0.1)
    for _ in range(200):
        _round(limiter, 1.0)
    assert limiter.size == 16


def test_a_cap_below_the_start_holds() -> None:
    limiter = Limiter(2)
    assert limiter.size == 2
    limiter.take()
    assert limiter.free
    limiter.take()
    assert not limiter.free
    limiter.give()
    assert limiter.free


@given(st.integers(1, 50), st.lists(st.none() | st.floats(0, 100), max_size=200))
def test_it_stays_between_one_and_the_cap(cap: int, told: list[float | None]) -> None:
    limiter = Limiter(cap)
    for seconds in told:
        if seconds is None:
            limiter.suffer()
        else:
            limiter.observe(seconds)
        assert 1 <= limiter.size <= cap

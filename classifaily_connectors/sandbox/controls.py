"""What a test may do to a running sandbox: keys, faults, scripts, and reading what happened.

The law of this file: every method takes the core's lock, so it may be called from any thread while requests run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .judging import Script
from .plans import plan_named
from .state import Account

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .app import Core
    from .deliveries import Delivery
    from .faults import Fault
    from .state import Bill, RequestRecord


class Controls:
    """The handles of one sandbox."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def bill(self) -> Bill:
        """What was charged since the start, or the last `reset_bill`."""
        with self._core.lock:
            return self._core.service.state.bill()

    def reset_bill(self) -> None:
        """Start the bill anew; the month's quota stays used."""
        with self._core.lock:
            state = self._core.service.state
            for digest in list(state.billed):
                del state.billed[digest]
                state.touch("billed", digest)
            self._core.save()

    @property
    def requests(self) -> list[RequestRecord]:
        """The last 100,000 requests as (method, path, status); status None where a fault gave no answer."""
        return list(self._core.requests)

    @property
    def deliveries(self) -> list[Delivery]:
        """The last 10,000 attempts at webhooks."""
        return list(self._core.deliverer.record)

    def inject(self, fault: Fault) -> None:
        """Put a fault in force."""
        with self._core.lock:
            self._core.faults.inject(fault)

    def clear_faults(self) -> None:
        """Remove every fault."""
        with self._core.lock:
            self._core.faults.clear()

    def add_key(self, key: str, *, plan: str = "starter", used: int | None = None) -> None:
        """Accept a key (again) under a plan; `used` sets what it used this month."""
        with self._core.lock:
            self._core.service.add_account(key, plan_named(plan), used)
            self._core.save()

    def revoke(self, key: str) -> None:
        """Answer this key 401 "revoked" from now on, until `add_key`."""
        self._stand(key, "revoked")

    def lapse(self, key: str) -> None:
        """Answer this key 403 subscription_inactive from now on, until `add_key`."""
        self._stand(key, "lapsed")

    def script(
        self,
        input_text: str,
        result: Mapping[str, Any] | str | None = None,
        *,
        error: Mapping[str, str] | str | None = None,
        delay: float | None = None,
        times: int | None = None,
    ) -> None:
        """Answer one input as told.

        `result` is the API's `result` object, or a label (confidence 0.97); `error` a failure's code and message, or
        its message (code server_error); `delay` seconds until the answer (on the sandbox's clock for an async job);
        `times` how often, None always. With all of them None the input is no longer scripted.
        """
        if isinstance(result, str):
            result = {"label": result, "confidence": 0.97}
        if isinstance(error, str):
            error = {"code": "server_error", "message": error}
        with self._core.lock:
            scripts = self._core.service.scripts.by_input
            if result is None and error is None and delay is None:
                scripts.pop(input_text, None)
            else:
                scripts[input_text] = Script(result, error, delay, times)

    def _stand(self, key: str, standing: Literal["lapsed", "revoked"]) -> None:
        with self._core.lock:
            state = self._core.service.state
            state.accounts.setdefault(key, Account(key, "starter")).standing = standing
            state.touch("accounts", key)
            self._core.save()

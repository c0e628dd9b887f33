"""Every error this package raises, and what each one knows.

    ClassifailyError
    ├── ConfigurationError (also ValueError)      a setting is missing or nonsense, or the base URL redirects
    │   └── MissingPackageError (also ImportError) a package of an extra is not installed
    ├── APIError                                  the API answered, and the answer is a refusal
    │   ├── InvalidRequestError (also ValueError) 400, 413, 422; or refused here before anything was sent
    │   ├── AuthenticationError                   401
    │   ├── SubscriptionInactiveError             403 subscription_inactive
    │   ├── PlanRestrictionError                  403 plan_restriction
    │   ├── NotFoundError                         404
    │   │   └── SchemaNotFoundError               404 schema_not_found
    │   ├── MethodNotAllowedError                 405
    │   ├── QuotaExceededError                    429: the month's quota is used up
    │   ├── RateLimitedError                      429 with a short Retry-After: slow down
    │   └── ServerError                           5xx: the server says it failed
    ├── NotSentError                              no connection: nothing was executed, nothing billed
    ├── OutcomeUnknownError                       sent, but no complete answer: it may have been executed and billed
    ├── JobFailedError                            the job ended in status `failed`
    ├── JobTimeoutError                           the job is still running when our patience ended
    ├── BudgetExceededError                       your own limit, met before the API's
    ├── ErrorRatioExceededError                   a table of which too many rows have no answer
    ├── UnsettledRowsError                        a table of which some rows may have been paid without an answer
    ├── StoppedError                              a bulk run that was told to stop
    ├── StorageError                              a table could not be read or written where it lies
    │   └── OutputBusyError                       another run is writing this output
    ├── StoreError                                the ledger's or the inbox's database does not do its part
    │   └── StoreUnavailableError (also ConfigurationError) it could not be opened: nothing was paid
    └── SignatureError                            a webhook that was not signed with our secret

The law of this file: an error holds data, never a request, a response, a key or an input text, and comes out of
`pickle` as it went in, because orchestrators carry errors from process to process. Branch on the class, on `code`
and on `outcome`; never on the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from classifaily_connectors.bulk.progress import BulkStats

Outcome = Literal["not_sent", "rejected", "failed", "unknown"]
"""What is known of a request that brought no result: `not_sent` (nothing left this machine), `rejected` (refused,
not billed), `failed` (the server reports an error of its own) or `unknown` (it may have been executed and billed)."""


class ClassifailyError(Exception):
    """The base of every error of this package.

    `outcome` says whether the request can have been executed; None where no request is concerned. `stats` are the
    counts of the bulk or table run that ended in it, None elsewhere; with them its text says what was billed, where the
    answers are kept and what running the same again costs.
    """

    outcome: Outcome | None = None
    stats: BulkStats | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self._text() if self.stats is None else f"{self._text()}. {self.stats.ending(self._unkept)}"

    def _text(self) -> str:
        return self.message

    @property
    def _unkept(self) -> int:
        """How many answers that were paid for are not where the ledger is."""
        return 0

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling calls cls(*args), which fails for every class with keyword-only arguments.
        return _rebuild, (type(self), self.message, dict(vars(self)))


def _rebuild(cls: type[ClassifailyError], message: str, data: dict[str, Any]) -> ClassifailyError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(data)
    return error


class ConfigurationError(ClassifailyError, ValueError):
    """A setting is missing or cannot work; the message names it and says what to change."""

    outcome: Outcome | None = "not_sent"


class MissingPackageError(ConfigurationError, ImportError):
    """A package that this call needs is not installed; the message says what to install."""


class APIError(ClassifailyError):
    """The API answered with an error.

    `status` is the HTTP status (None when the request was refused before sending), `code` the API's machine-readable
    code (API reference, Errors), `docs` a link when the API gives one. `limit`, `used` and `resets_at` belong to
    quota errors and are None when the server leaves them out. `message` is the server's; `str` adds what to do.
    """

    _advice = "see the API reference, Errors"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        docs: str | None = None,
        outcome: Outcome = "rejected",
        limit: int | None = None,
        used: int | None = None,
        resets_at: datetime | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.docs = docs
        self.outcome = outcome
        self.limit = limit
        self.used = used
        self.resets_at = resets_at
        self.retry_after = retry_after

    def _text(self) -> str:
        if self.status is None:
            return self.message
        return f"{self.message} (HTTP {self.status}{f', {self.code}' if self.code else ''}); {self._what_to_do()}"

    def _what_to_do(self) -> str:
        return self._advice


class InvalidRequestError(APIError, ValueError):
    """The request is wrong and sending it again cannot help; `status` is None when it was never sent."""

    _advice = "change the request, as it cannot help to send it again"


def refuse(message: str) -> InvalidRequestError:
    """The error for an argument that is wrong before anything was sent."""
    return InvalidRequestError(message, outcome="not_sent")


class AuthenticationError(APIError):
    """The API key is missing, malformed or revoked; `key_source` says in words where it came from."""

    key_source: str | None = None

    def _what_to_do(self) -> str:
        fix = "check it there, or create another one under API Keys in the dashboard"
        return f"the key came from {self.key_source}: {fix}" if self.key_source else fix.replace(" there", "")


class SubscriptionInactiveError(APIError):
    """The paid plan has lapsed."""

    _advice = "renew the plan in the dashboard"


class PlanRestrictionError(APIError):
    """The plan does not include this: categories, schemas and images need Starter; audio, video and webhooks Pro."""

    _advice = "upgrade the plan, or leave out what it does not include"


class NotFoundError(APIError):
    """No such object; jobs also end here when the plan's history (7 days, 30 days, 1 year) has passed."""

    _advice = "is the id right, and the key that of its account? Jobs are known for as long as the plan says"


class SchemaNotFoundError(NotFoundError):
    """The schema id does not exist or belongs to another account."""

    _advice = "look for its id in schemas.list() or in the dashboard"


class MethodNotAllowedError(APIError):
    """The server has no such call; for schemas and webhooks, use the dashboard instead."""

    _advice = "use the dashboard instead"


class QuotaExceededError(APIError):
    """The month's quota is used up: waiting seconds cannot help.

    `limit` and `used` count requests, `resets_at` is an aware datetime. Never cache this as "exhausted until
    `resets_at`": an upgrade restores access at once.
    """

    def _what_to_do(self) -> str:
        when = f"{self.resets_at:%Y-%m-%d %H:%M} UTC" if self.resets_at else "the month ends"
        return f"wait until {when}, or upgrade the plan"


class RateLimitedError(APIError):
    """Too many requests just now; `retry_after` is the server's wait in seconds, at most 60."""

    _advice = "try again in a minute"


class ServerError(APIError):
    """The server failed. A job may or may not exist, so a billable call that ends here counts as maybe billed."""

    _advice = "try again in a while"


class NotSentError(ClassifailyError):
    """No connection could be opened, so nothing was executed and nothing billed."""

    outcome: Outcome | None = "not_sent"


class OutcomeUnknownError(ClassifailyError):
    """The request went out, but no complete answer came back: it may have been executed and billed.

    Never sent again by itself. `status` is the HTTP status when one arrived (502, 504, an unreadable 200).
    """

    outcome: Outcome | None = "unknown"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class JobFailedError(ClassifailyError):
    """The job ended in status `failed`; `job_id` names it, `code` is the API's code when it gave one."""

    outcome: Outcome | None = "failed"

    def __init__(self, message: str, *, job_id: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.code = code


class JobTimeoutError(ClassifailyError):
    """The job has not ended within the wait. It runs on and is paid: pick it up with `jobs.wait(error.job_id)`."""

    outcome: Outcome | None = "unknown"

    def __init__(self, message: str, *, job_id: str, status: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.status = status


class BudgetExceededError(ClassifailyError):
    """A limit of your own (`max_requests`, `reserve`), or what is left of the month's quota, would have been crossed.

    `needed` and `available` count requests of the whole run; `resets_at` is when the API's quota starts anew. Where
    the need is known nothing was sent; `stats` say what was billed where it was not.
    """

    outcome: Outcome | None = "not_sent"

    def __init__(
        self,
        message: str,
        *,
        needed: int | None = None,
        available: int | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available
        self.resets_at = resets_at


class ErrorRatioExceededError(ClassifailyError):
    """More rows than allowed are failed or unknown; the labelled table is complete all the same.

    `errors` and `rows` count rows; `output` is where the table is, None when it was to be a frame.
    """

    def __init__(
        self, message: str, *, errors: int | None = None, rows: int | None = None, output: str | None = None
    ) -> None:
        super().__init__(message)
        self.errors = errors
        self.rows = rows
        self.output = output


class UnsettledRowsError(ClassifailyError):
    """Rows of a table may have been paid without an answer (`unknown`); the labelled table is complete all the same.

    `unknown` and `rows` count rows; `output` is where the table is, `result` what the call would have returned. Where
    it `mends`, the same call settles them from the API's history, a minute later or with `on_unknown="reconcile"`;
    without a ledger it would pay for every row anew.
    """

    def __init__(
        self,
        message: str,
        *,
        unknown: int | None = None,
        rows: int | None = None,
        output: str | None = None,
        result: Any = None,
        mends: bool = False,
    ) -> None:
        super().__init__(message)
        self.mends = mends
        self.unknown = unknown
        self.rows = rows
        self.output = output
        self.result = result


class StoppedError(ClassifailyError):
    """A bulk run was told to stop: nothing more was bought, and everything that was under way has landed."""


class StoreError(ClassifailyError):
    """The database under the ledger or the inbox fails: it is full, locked, damaged, read-only, gone or out of reach.

    `passing` says whether it may work again after a while without anybody's doing. `unwritten` counts answers that were
    paid and could not be written, and `rescue` is the file that they were put into: the next ledger that is opened for
    this store on this machine takes them in. None when nothing had to be, or nothing could be, rescued.
    """

    def __init__(self, message: str, *, passing: bool = False, unwritten: int = 0, rescue: str | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.unwritten = unwritten
        self.rescue = rescue

    @property
    def _unkept(self) -> int:
        return self.unwritten


class StoreUnavailableError(StoreError, ConfigurationError):
    """The store could not be opened; nothing was sent, so nothing was paid."""


class StorageError(ClassifailyError):
    """A table could not be read or written where it lies: a full disk, a lost mount, a refused upload.

    What was paid is kept, and the message says where. Run the same again once the storage works: it pays for the rest.
    `place` is what could not be read or written, without passwords and signatures.
    """

    def __init__(self, message: str, *, place: str | None = None) -> None:
        super().__init__(message)
        self.place = place


class OutputBusyError(StorageError):
    """Another run is writing this output; nothing was paid, and a later try may find it done."""

    outcome: Outcome | None = "not_sent"


class SignatureError(ClassifailyError):
    """A webhook delivery whose signature is missing, malformed or made with another secret."""


_BY_CODE: Mapping[str, type[APIError]] = {
    **dict.fromkeys(("invalid_json", "invalid_request"), InvalidRequestError),
    "unauthorized": AuthenticationError,
    "subscription_inactive": SubscriptionInactiveError,
    "plan_restriction": PlanRestrictionError,
    "schema_not_found": SchemaNotFoundError,
    "method_not_allowed": MethodNotAllowedError,
}
_BY_STATUS: Mapping[int, type[APIError]] = {
    **dict.fromkeys((400, 413, 415, 422), InvalidRequestError),
    401: AuthenticationError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    429: QuotaExceededError,
}


def error_class(status: int, code: str | None) -> type[APIError]:
    """The class for an HTTP status and the API's code: the code decides within its own kind of status.

    Any status from 300 to 599 and any code find a class here (API reference, Errors).
    """
    if status >= 500:  # noqa: PLR2004
        return ServerError
    named = _BY_CODE.get(code or "")
    return named or _BY_STATUS.get(status, APIError)


def why(error: Exception) -> str:
    """What may be said of an error that is anybody's: our own message; of another its kind, as it may quote values."""
    return error.message if isinstance(error, ClassifailyError) else type(error).__name__

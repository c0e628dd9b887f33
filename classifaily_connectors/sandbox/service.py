"""The API itself: who may ask for what, what it costs, and what comes back (API reference, all of it).

The law of this file: it turns a `Call` into an `Answer` and changes nothing but the `State`; sockets, files, threads
and real waiting are elsewhere. A call that is refused costs nothing and leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import resources
from .clock import stamp
from .judging import MODEL, UNREACHABLE, Scripts, judge, latency_of, tokens_of, unreachable
from .plans import Plan, plan_named
from .state import Account, Job, Month, Outcome, Schema, State
from .validation import TYPES, Work, read_flag, read_items, read_work
from .wire import Answer, Call, Refusal, invalid, read_json, restricted

if TYPE_CHECKING:
    from .clock import Clock
    from .switches import Switches

_PREVIEW = 32
_FORBIDDEN = 403


class Service:
    """All endpoints over one state. Not thread-safe: the caller holds a lock."""

    def __init__(self, state: State, switches: Switches, clock: Clock) -> None:
        self.state, self.switches, self.clock = state, switches, clock
        self.scripts = Scripts()
        self.on_job: Callable[[Job], None] = lambda _: None
        """Told of every job that owes webhooks an event."""

    def handle(self, call: Call) -> Answer:
        """Answer one request; refusals are answers as well."""
        try:
            return self._route(self._authenticate(call), call)
        except Refusal as refusal:
            return refusal.answer(self.switches)

    # --- who and where ----------------------------------------------------------------------------------------

    def _authenticate(self, call: Call) -> Account:
        header = call.headers.get("authorization", "")
        if not header:
            raise Refusal(401, "unauthorized", "API key missing.")
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal(401, "unauthorized", "API key malformed.")
        account = self.state.accounts.get(key.strip())
        if account is None:
            raise Refusal(401, "unauthorized", "API key is not valid.")
        if account.standing == "revoked":
            raise Refusal(401, "unauthorized", "API key has been revoked.")
        if account.standing == "lapsed":
            raise Refusal(403, "subscription_inactive", "Your subscription has lapsed.")
        return account

    def _route(self, account: Account, call: Call) -> Answer:
        resource, _, id = call.path.strip("/").partition("/")
        match resource, id:
            case ("classify", "") | ("batch", ""):
                if call.method != "POST":
                    raise Refusal(405, "method_not_allowed", "Use POST for this endpoint.")
                data = read_json(call)
                return self.classify(account, data) if resource == "classify" else self.batch(account, data)
            case "usage", "":
                _only(call, "GET")
                return self.usage(account, call.query.get("month"))
            case "jobs", _ if not id or self.switches.job_lookup != "query":
                _only(call, "GET")
                return resources.jobs(self, account, call, id)
            case "schemas", _:
                return resources.schemas(self, account, call, id)
            case "webhooks", _:
                return resources.webhooks(self, account, call, id)
            case _:
                raise Refusal(404, "not_found", "Unknown endpoint.")

    # --- classify and batch -----------------------------------------------------------------------------------

    def classify(self, account: Account, data: dict[str, Any]) -> Answer:
        """POST /classify."""
        work = read_work(data, self.switches)
        asked = read_flag(data, "async")
        self._check_plan(account, [work])
        schema = self._schema_of(account, work)
        self._check_quota(account, 1)
        queued = asked or (work.type != "text" and self.switches.unasked_async in ("media", "both"))
        if unreachable(work) and not queued:
            raise invalid(UNREACHABLE)
        job, delay = self._execute(account, self.state.next_job_id(), [work], [schema], queued=queued)
        if queued:
            return self._queued(job)
        return Answer(200, self._classified(job), delay)

    def batch(self, account: Account, data: dict[str, Any]) -> Answer:
        """POST /batch."""
        works = read_items(data, self.switches, lambda size: self._check_size(account, size))
        asked = read_flag(data, "async")
        if asked and self.switches.batch_async == "refuse":
            raise invalid("Field 'async' is not supported for batches.")
        self._check_plan(account, works)
        schemas = [self._schema_of(account, work) for work in works]
        self._check_quota(account, len(works))
        queued = (asked and self.switches.batch_async == "accept") or self.switches.unasked_async in ("batch", "both")
        job, delay = self._execute(account, self.state.next_batch_id(), works, schemas, queued=queued, batch=True)
        if queued:
            return self._queued(job)
        body = resources.batch_view(job, self.switches, self._now())
        del body["completed_at"]
        return Answer(200, body, delay)

    def _execute(
        self,
        account: Account,
        id: str,
        works: list[Work],
        schemas: list[Schema | None],
        *,
        queued: bool,
        batch: bool = False,
    ) -> tuple[Job, float]:
        """Judge, charge and record; the second value is the longest scripted delay of a synchronous call."""
        now = self._now()
        delay, scripted = 0.0, False
        outcomes: list[Outcome] = []
        tokens: list[int] = []
        fits = self._remaining(account)
        for position, (work, schema) in enumerate(zip(works, schemas, strict=True)):
            categories = schema.categories if schema else work.categories
            mode = work.mode or (schema.mode if schema else "single")
            if fits is not None and position >= fits:
                outcomes.append(Outcome(work.id, error={"code": "rate_limit_exceeded", "message": "Quota exhausted."}))
                tokens.append(0)
                continue
            script = self.scripts.take(work.input)
            if script and script.delay is not None:
                delay, scripted = max(delay, script.delay), True
            outcome = judge(work, categories, mode, script, self.switches)
            if outcome.id is None and batch and self.switches.missing_item_id == "position":
                outcome.id = str(position)
            outcomes.append(outcome)
            tokens.append(tokens_of(work, categories))
            if schema:
                schema.total_uses += 1
                self.state.touch("schemas", schema.id)
            if outcome.error is None or self.switches.counts == "accepted":
                self._charge(account, work, tokens[-1])
        first = works[0]
        job = Job(
            id=id,
            account=account.key,
            input_type=first.type,
            input_preview=first.input if len(first.input) <= _PREVIEW else first.input[:_PREVIEW] + "...",
            categories=None if schemas[0] else first.categories,
            schema_id=schemas[0].id if schemas[0] else None,
            mode=first.mode or (schemas[0].mode if schemas[0] else "single"),
            tokens=sum(tokens),
            latency_ms=latency_of(first) + 4 * (len(works) - 1),
            created=now,
            ready=now + (delay if scripted else self.switches.job_delay) if queued else now,
            outcomes=outcomes,
            batch=batch,
            notify=queued or self.switches.notify_sync,
        )
        self.state.jobs[id] = job
        self.state.touch("jobs", id)
        if job.notify:
            self.on_job(job)
        return job, 0.0 if queued else delay

    def _classified(self, job: Job) -> dict[str, Any]:
        outcome = job.outcomes[0]
        body: dict[str, Any] = {
            "id": resources.id_view(job, self.switches),
            "status": "completed",
            "type": job.input_type,
        }
        if outcome.error:
            body |= {"status": "failed", **resources.failure(outcome.error, self.switches)}
        else:
            body["result"] = outcome.result
        meta = {"model": MODEL, "latency_ms": job.latency_ms, "tokens": job.tokens, "mode": job.mode}
        match self.switches.answer_shape:
            case "reference":
                return body | {"meta": meta, "created_at": stamp(job.created)}
            case "guide":
                return body
            case "home":
                del body["id"], body["type"]
                return body | {"meta": {"latency_ms": job.latency_ms}}

    def _queued(self, job: Job) -> Answer:
        return Answer(
            202,
            {self.switches.job_id_key: resources.id_view(job, self.switches), "status": self.switches.queued_status},
        )

    # --- limits -----------------------------------------------------------------------------------------------

    def _check_size(self, account: Account, size: int) -> None:
        plan = plan_named(account.plan)
        if not plan.paid and (size > 1 or self.switches.free_batch == "none"):
            raise restricted("Batch requires Starter or higher.")
        limit = plan.batch_size if self.switches.batch_limit is None else self.switches.batch_limit
        if size > limit:
            code = "plan_restriction" if self.switches.batch_over_size == _FORBIDDEN else "invalid_request"
            message = f"Batch size {size} exceeds the plan maximum of {limit}."
            raise Refusal(self.switches.batch_over_size, code, message)

    def _check_plan(self, account: Account, works: list[Work]) -> None:
        plan = plan_named(account.plan)
        for work in works:
            if work.schema is not None and not plan.paid:
                raise restricted("Schemas require Starter or higher.")
            if work.categories is not None and not plan.categories:
                raise restricted("Custom categories require Starter or higher.")
            if work.type != "text" and work.type not in plan.media:
                needed = "Starter" if work.type == "image" else "Pro"
                raise restricted(f"{work.type.capitalize()} input requires {needed} or higher.")

    def _schema_of(self, account: Account, work: Work) -> Schema | None:
        return None if work.schema is None else resources.find_schema(self.state, account, work.schema)

    def _check_quota(self, account: Account, needed: int) -> None:
        remaining = self._remaining(account)
        if remaining is None or needed <= remaining:
            return
        if remaining and self.switches.batch_over_quota == "partial":
            return
        limit = plan_named(account.plan).requests
        extra = {"limit": limit, "used": self._month(account).requests, "resets_at": resets_at(self._period())}
        raise Refusal(429, "rate_limit_exceeded", f"Monthly limit of {limit} requests reached.", extra)

    def _remaining(self, account: Account) -> int | None:
        limit = plan_named(account.plan).requests
        return None if limit is None else max(0, limit - self._month(account).requests)

    def _charge(self, account: Account, work: Work, tokens: int) -> None:
        month = self._month(account)
        month.requests += 1
        month.tokens += tokens
        month.by_type[work.type] = month.by_type.get(work.type, 0) + 1
        self.state.touch("accounts", account.key)
        self.state.charge(work.input)

    def _month(self, account: Account) -> Month:
        return account.months.setdefault(self._period(), Month())

    def _period(self) -> str:
        return self.clock.now().strftime("%Y-%m")

    def _now(self) -> float:
        return self.clock.now().timestamp()

    # --- usage ------------------------------------------------------------------------------------------------

    def usage(self, account: Account, month: str | None) -> Answer:
        """GET /usage."""
        period = month or self._period()
        try:
            valid = datetime.strptime(period, "%Y-%m").strftime("%Y-%m") == period  # noqa: DTZ007 (a month)
        except ValueError:
            valid = False
        if not valid:
            raise invalid("Parameter 'month' must be YYYY-MM.")
        plan, used = plan_named(account.plan), account.months.get(period, Month())
        by_type = {type: used.by_type.get(type, 0) for type in TYPES}
        if self.switches.by_type == "used":
            by_type = {type: count for type, count in by_type.items() if count}
        remaining = None if plan.requests is None else max(0, plan.requests - used.requests)
        limits = {
            "requests": self._limit(plan.requests),
            "resets_at": resets_at(period),
            "media": bool(plan.media),
            "schemas": self._limit(plan.schemas),
            "batch_size": plan.batch_size,
        }
        usage = {
            "requests": used.requests,
            "remaining": self._limit(remaining),
            "by_type": by_type,
            "tokens": used.tokens,
        }
        return Answer(200, {"period": period, "plan": plan.name, "limits": limits, "usage": usage})

    def _limit(self, number: int | None) -> int | str | None:
        if number is not None:
            return number
        return {"null": None, "minus_one": -1, "word": "unlimited"}[self.switches.unlimited]

    def add_account(self, key: str, plan: Plan, used: int | None = None) -> Account:
        """Make or change the account of a key; `used` sets this month's count (all text)."""
        account = self.state.accounts.setdefault(key, Account(key, plan.name))
        account.plan, account.standing = plan.name, "active"
        if used is not None:
            account.months[self._period()] = Month(used, used * 211, {"text": used} if used else {})
        self.state.touch("accounts", key)
        return account


def _only(call: Call, method: str) -> None:
    if call.method != method:
        raise Refusal(405, "method_not_allowed", "Wrong HTTP method for this endpoint.")


def resets_at(period: str) -> str:
    """The 1st of the month after `period` (`YYYY-MM`), midnight UTC (API reference, Rate limits)."""
    year, month = divmod(int(period[:4]) * 12 + int(period[5:]), 12)
    return stamp(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())

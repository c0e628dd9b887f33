"""Schemas, webhooks and jobs: what is kept, how it is listed, and how long (API reference: Schemas, Jobs, Webhooks).

The law of this file: an account sees its own records only; a secret is shown once; a job is gone when its plan's
history ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import stamp
from .judging import MODEL
from .plans import plan_named
from .state import Account, Job, Outcome, Schema, State, Webhook
from .validation import TYPES, read_number, read_schema, read_webhook
from .wire import Answer, Call, Refusal, invalid, read_json, restricted

if TYPE_CHECKING:
    from .service import Service
    from .switches import Switches

STATUSES = ("pending", "processing", "completed", "failed")
_PAGE, _PAGE_MAX = 20, 100
_DAY = 86_400


def _envelope(switches: Switches, name: str, rows: list[Any], **about: int) -> Any:
    match switches.list_envelope:
        case "named":
            return {name: rows, **about}
        case "data":
            return {"data": rows, **about}
        case "bare":
            return rows


def _check_verb(switches: Switches, call: Call, id: str) -> None:
    allowed = {"POST"} if not id else set[str]()
    if switches.sub_resources != "none":
        allowed |= {"GET", "PUT", "PATCH", "DELETE"} if id else {"GET"}
    if switches.sub_resources in ("put", "patch"):
        allowed -= {"PUT", "PATCH"} - {switches.sub_resources.upper()}
    if call.method not in allowed:
        raise Refusal(405, "method_not_allowed", "Wrong HTTP method for this endpoint.")


# --- schemas --------------------------------------------------------------------------------------------------


def schemas(service: Service, account: Account, call: Call, id: str) -> Answer:
    """/schemas, /schemas/{id} and /schemas?id=."""
    state, switches = service.state, service.switches
    id = id or call.query.get("id", "")
    _check_verb(switches, call, id)
    if not plan_named(account.plan).paid:
        if call.method in ("POST", "PUT", "PATCH"):
            read_schema(read_json(call), partial=call.method != "POST")
        raise restricted("Schemas require Starter or higher.")
    if call.method == "POST":
        return _create_schema(service, account, call)
    if not id:
        rows = [_schema_view(one, switches) for one in state.schemas.values() if one.account == account.key]
        return Answer(200, _envelope(switches, "schemas", rows, total=len(rows)))
    schema = find_schema(state, account, id)
    if call.method == "DELETE":
        del state.schemas[schema.id]
        state.touch("schemas", schema.id)
        return Answer(204)
    if call.method in ("PUT", "PATCH"):
        for name, value in read_schema(read_json(call), partial=call.method == "PATCH").items():
            setattr(schema, name, value)
        state.touch("schemas", schema.id)
    return Answer(200, _schema_view(schema, switches))


def _create_schema(service: Service, account: Account, call: Call) -> Answer:
    state, plan = service.state, plan_named(account.plan)
    fields = read_schema(read_json(call))
    owned = sum(schema.account == account.key for schema in state.schemas.values())
    if plan.schemas is not None and owned >= plan.schemas:
        raise restricted(f"{plan.name.capitalize()} allows {plan.schemas} saved schemas.")
    created = service.clock.now().timestamp()
    schema = Schema(id=state.next("schemas"), account=account.key, created=created, **fields)
    state.schemas[schema.id] = schema
    state.touch("schemas", schema.id)
    return Answer(service.switches.create_status, _schema_view(schema, service.switches))


def find_schema(state: State, account: Account, id: int | str) -> Schema:
    """An account's schema; refuses with schema_not_found."""
    schema = state.schemas.get(int(id)) if str(id).isdecimal() else None
    if schema is None or schema.account != account.key:
        message = f"Schema {id} does not exist or belongs to another account."
        raise Refusal(404, "schema_not_found", message)
    return schema


def _schema_view(schema: Schema, switches: Switches) -> dict[str, Any]:
    categories = schema.categories
    if switches.schema_categories == "objects":
        categories = [{"name": entry} if isinstance(entry, str) else entry for entry in categories]
    # The reference's answer has no `description`.
    return {
        "id": schema.id,
        "name": schema.name,
        "categories": categories,
        "type": schema.type,
        "mode": schema.mode,
        "total_uses": schema.total_uses,
        "created_at": stamp(schema.created),
    }


# --- webhooks -------------------------------------------------------------------------------------------------


def webhooks(service: Service, account: Account, call: Call, id: str) -> Answer:
    """/webhooks, /webhooks/{id} and /webhooks?id=."""
    state, switches, plan = service.state, service.switches, plan_named(account.plan)
    id = id or call.query.get("id", "")
    _check_verb(switches, call, id)
    fields = read_webhook(read_json(call), partial=call.method == "PATCH") if call.method in _WRITES else {}
    if plan.webhooks == 0:
        raise restricted("Webhooks require Pro or higher.")
    owned = [webhook for webhook in state.webhooks.values() if webhook.account == account.key]
    if call.method == "POST":
        if plan.webhooks is not None and len(owned) >= plan.webhooks:
            raise restricted(f"{plan.name.capitalize()} allows {plan.webhooks} webhooks.")
        return _create_webhook(service, account, fields)
    if not id:
        rows = [_webhook_view(webhook) for webhook in owned]
        return Answer(200, _envelope(switches, "webhooks", rows, total=len(rows)))
    webhook = next((webhook for webhook in owned if str(webhook.id) == id), None)
    if webhook is None:
        raise Refusal(404, "webhook_not_found", f"Webhook {id} does not exist.")
    state.touch("webhooks", webhook.id)
    if call.method == "DELETE":
        del state.webhooks[webhook.id]
        return Answer(204)
    for name, value in fields.items():
        setattr(webhook, name, value)
    return Answer(200, _webhook_view(webhook))


_WRITES = ("POST", "PUT", "PATCH")


def _create_webhook(service: Service, account: Account, fields: dict[str, Any]) -> Answer:
    state, shown = service.state, service.switches.secret_in_answer
    id = state.next("webhooks")
    generated = "secret" not in fields
    secret = state.token(f"webhook {id}", 64) if generated else fields["secret"]
    created = service.clock.now().timestamp()
    webhook = Webhook(id, account.key, fields["url"], fields["events"], secret, created)
    state.webhooks[id] = webhook
    state.touch("webhooks", id)
    body = _webhook_view(webhook)
    if shown == "always" or (shown == "generated" and generated):
        body["secret"] = secret
    return Answer(service.switches.create_status, body)


def _webhook_view(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "created_at": stamp(webhook.created),
    }


# --- jobs -----------------------------------------------------------------------------------------------------


def jobs(service: Service, account: Account, call: Call, id: str) -> Answer:
    """GET /jobs, /jobs?id= and /jobs/{id}."""
    state, switches, query = service.state, service.switches, call.query
    now = service.clock.now().timestamp()
    listed = not id
    if not id and switches.job_lookup != "path":
        id = query.get("id", "")
    if id:
        job = state.jobs.get(id)
        if job is None or job.account != account.key or _expired(job, account, now):
            raise Refusal(404, switches.job_404_code, f"Job {id} does not exist.")
        view = job_view(job, switches, now)
        if listed and switches.job_by_id == "listed":
            view = _envelope(switches, "jobs", [view], total=1, limit=_PAGE, offset=0)
        return Answer(200, view)
    clamp = switches.over_max == "clamp"
    limit = read_number(query, "limit", _PAGE, 1, _PAGE_MAX, clamp=clamp)
    offset = read_number(query, "offset", 0, 0, None, clamp=clamp)
    status, input_type = query.get("status"), query.get("input_type")
    if status is not None and status not in STATUSES:
        raise invalid("Unknown status.")
    if input_type is not None and input_type not in TYPES:
        raise invalid("Unknown input_type.")
    found = [
        job
        for job in reversed(state.jobs.values())
        if job.account == account.key
        and status in (None, job_status(job, switches, now))
        and input_type in (None, job.input_type)
        and not _expired(job, account, now)
    ]
    rows = [job_view(job, switches, now) for job in found[offset : offset + limit]]
    return Answer(200, _envelope(switches, "jobs", rows, total=len(found), limit=limit, offset=offset))


def _expired(job: Job, account: Account, now: float) -> bool:
    days = plan_named(account.plan).history_days
    return days is not None and now - job.created > days * _DAY


def job_status(job: Job, switches: Switches, now: float) -> str:
    """Where a job stands: pending for the first half of its time, then processing, then final."""
    if now < job.ready:
        started = now >= (job.created + job.ready) / 2
        return "processing" if started else switches.queued_status
    return "failed" if not job.batch and job.outcomes[0].error else "completed"


def id_view(job: Job, switches: Switches) -> str | int:
    """A job's id as it is written."""
    return int(job.id) if switches.job_ids == "integer" and not job.batch else job.id


def job_view(job: Job, switches: Switches, now: float) -> Any:
    """The job object (API reference, Jobs); a batch is shown as /batch answers it."""
    if job.batch:
        return batch_view(job, switches, now)
    status = job_status(job, switches, now)
    final, outcome = now >= job.ready, job.outcomes[0]
    succeeded = status == "completed"
    view: dict[str, Any] = {
        "id": id_view(job, switches),
        "status": status,
        "input_type": job.input_type,
        "input_preview": job.input_preview,
        "result": outcome.result if succeeded else None,
        "categories": job.categories,
        "schema_id": job.schema_id,
        "model_used": None if status == "pending" else MODEL,
        "tokens_used": job.tokens if succeeded else None,
        "latency_ms": job.latency_ms if succeeded else None,
        "created_at": stamp(job.created),
        "completed_at": stamp(job.ready) if final else None,
    }
    if status == "failed" and outcome.error:
        view |= {**failure(outcome.error, switches), "result": None}
    return view


def batch_view(job: Job, switches: Switches, now: float) -> dict[str, Any]:
    """A batch with its results, or without them while it runs."""
    final = now >= job.ready
    return {
        "id": job.id,
        "status": job_status(job, switches, now),
        "results": [item_view(outcome, switches) for outcome in job.outcomes] if final else None,
        "meta": batch_meta(job) if final else None,
        "created_at": stamp(job.created),
        "completed_at": stamp(job.ready) if final else None,
    }


def batch_meta(job: Job) -> dict[str, int]:
    """The counts of a batch."""
    failed = sum(outcome.error is not None for outcome in job.outcomes)
    total = len(job.outcomes)
    return {"total": total, "completed": total - failed, "failed": failed, "latency_ms": job.latency_ms}


def item_view(outcome: Outcome, switches: Switches) -> dict[str, Any]:
    """One entry of a batch's results."""
    if outcome.error:
        return {"id": outcome.id, "status": "failed", **failure(outcome.error, switches)}
    return {"id": outcome.id, "status": "completed", "result": outcome.result}


def failure(error: dict[str, str], switches: Switches) -> dict[str, Any]:
    """What a failed item or job says of its failure."""
    match switches.failure_body:
        case "object":
            return {"result": None, "error": dict(error)}
        case "string":
            return {"result": None, "error": error.get("message", "")}
        case "absent":
            return {}

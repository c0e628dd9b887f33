"""Everything the API sends and takes, as pydantic models.

The law of this file: read what the server sends by its *shape*, never by what was asked for, and never lose a paid
answer to a detail. The site runs on PHP, whose `json_encode` turns 1.0 into 1, an empty map into `[]` and a filtered
list into `{"0": …, "2": …}`; all of these are read. Fields we do not know are kept. Words the server owns (statuses,
plans, events) are open strings, so a new one never breaks a client in the field.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Generic, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from classifaily_connectors import members
from classifaily_connectors.events import status_after
from classifaily_connectors.fields import (
    Count,
    Id,
    Instant,
    Map,
    Reference,
    SchemaId,
    Word,
    as_confidence,
    as_count,
    as_list,
    as_map,
    as_text,
    as_word,
    as_words,
)

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # typing's own has no `default` before Python 3.13

    L_co = TypeVar("L_co", covariant=True, default=str)
else:
    from typing import TypeVar

    L_co = TypeVar("L_co", covariant=True)


class Model(BaseModel):
    """Frozen, keeps fields it does not know, and may be built by field name or by the API's spelling."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, protected_namespaces=())


class Category(Model):
    """One category (API reference, Category objects); `description` and `examples` help most where names are close."""

    name: Annotated[str, BeforeValidator(as_text)]
    description: Word = None
    examples: Annotated[tuple[str, ...], BeforeValidator(as_words)] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: object) -> object:
        return {"name": data} if _is_name(data) else data


def _as_categories(value: object) -> list[Any]:
    # What a job or schema says of its categories is an echo: an entry that is none is left out.
    return [each for each in as_list(value) if isinstance(each, Category) or _is_name(each) or _has_name(each)]


def _has_name(value: object) -> bool:
    return _is_name(as_map(value).get("name"))


Categories = Annotated[tuple[Category, ...], BeforeValidator(_as_categories)]


EnumClass = type[Enum]  # a class with a field called `type` cannot say so itself


class Label(Model):
    """One verdict: `confidence` runs from 0 to 1 and is None when the server sent none."""

    label: Annotated[str, BeforeValidator(as_text)]
    confidence: Annotated[float | None, BeforeValidator(as_confidence)] = None
    explanation: Word = None


class ErrorDetail(Model):
    """Why one item or job failed; `str()` gives the message."""

    message: str
    code: Word = None

    def __str__(self) -> str:
        return self.message

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: object) -> object:
        if isinstance(data, str):
            return {"message": data}
        detail = as_map(data)
        return {
            **detail,
            "message": str(detail.get("message") or detail.get("code") or "failed without a reason"),
        }


def _as_part(value: object) -> dict[str, Any]:
    # What this package read before, or a piece of JSON.
    return dict(value) if isinstance(value, Model) else as_map(value)


def _is_name(value: object) -> bool:
    # A category named "2024" may come back as the number 2024.
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _labels(result: object) -> list[dict[str, Any]]:
    """The verdicts in a `result`, best first, whatever its shape: one label, `labels`, a bare list, or nothing."""
    found: list[Any]
    if isinstance(result, Mapping):
        body = as_map(cast("object", result))
        found = [body] if "label" in body else as_list(body["labels"]) if "labels" in body else as_list(body)
    else:
        found = as_list(result)
    labels = [{"label": each} if isinstance(each, str) else _as_part(each) for each in found]
    named = [each for each in labels if _is_name(each.get("label"))]
    if len(named) < 2:  # noqa: PLR2004
        return named
    return sorted(named, key=lambda each: -(as_confidence(each.get("confidence")) or 0.0))


class Classification(Model, Generic[L_co]):
    """The answer for one input; `Classification[Team]` where the categories were the Enum `Team`.

    `labels` holds every verdict, best first, and is empty when nothing reached the threshold; `label`, `confidence`
    and `explanation` are those of the best one, or None. `error` says why an item failed (batches and jobs only).
    `label` is a member of the Enum where there is one, and None when the best label is none of it: a case for review.
    """

    id: Word = None
    status: str = "completed"
    type: Word = None
    labels: tuple[Label, ...] = ()
    error: ErrorDetail | None = None
    meta: Map = Field(default_factory=dict)
    created_at: Instant = None
    _taxonomy: EnumClass | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _from_wire(cls, data: object) -> object:
        return cls._read(as_map(data))

    @classmethod
    def _read(cls, wire: dict[str, Any]) -> dict[str, Any]:
        result = wire.pop("result", None)
        wire["labels"] = _labels(wire.get("labels") if result is None else result)
        if as_word(wire.get("id")) is None:  # the reference's field table says job_id, its example says id
            wire["id"] = wire.pop("job_id", None)
        wire["status"] = as_word(wire.get("status"))
        for name in ("error", "status"):
            if not wire.get(name):
                wire.pop(name, None)
        return wire

    def with_taxonomy(self, taxonomy: EnumClass) -> Self:
        """The same answer, whose label is a member of this Enum, also after it was stored as JSON and read again."""
        answer = self.model_copy(update={"label_enum": members.path_of(taxonomy)})
        answer._taxonomy = taxonomy  # noqa: SLF001
        return answer

    @property
    def label(self) -> L_co | None:
        """The best label, or None when there is none.

        Warns, and gives the text, when the answer was read from JSON in a process that does not know its Enum.
        """
        label = self.labels[0].label if self.labels else None
        path = (self.model_extra or {}).get("label_enum")
        taxonomy = self._taxonomy or (members.find(path) if path else None)
        if taxonomy is not None:
            return cast("L_co | None", members.by_label(taxonomy).get(label or ""))
        if path:
            warnings.warn(f"the label is a text: this process has no Enum {path}; import its module", stacklevel=2)
        return cast("L_co | None", label)

    @property
    def confidence(self) -> float | None:
        """The best label's confidence, 0 to 1, or None."""
        return self.labels[0].confidence if self.labels else None

    @property
    def explanation(self) -> str | None:
        """The best label's explanation; present only when asked for with `explain`."""
        return self.labels[0].explanation if self.labels else None

    @property
    def margin(self) -> float | None:
        """How far the best label leads the runner-up, 0 to 1; None unless at least two confidences are known."""
        first, second = (*self.labels, None, None)[:2]
        if first is None or second is None or first.confidence is None or second.confidence is None:
            return None
        return first.confidence - second.confidence

    @property
    def failed(self) -> bool:
        """Whether the API reports that this input could not be classified."""
        return self.status == "failed"


class Job(Classification):
    """A classification as the jobs endpoint tells it: pending, processing, completed or failed.

    `results` is filled for batch jobs. `input_preview` is the API's own excerpt of the input: it stays out of `repr`.
    """

    input_type: Word = None
    input_preview: Word = Field(default=None, repr=False)
    categories: Categories = ()
    schema_id: Reference = None
    results: Annotated[tuple[Classification, ...], BeforeValidator(as_list)] = ()
    completed_at: Instant = None

    @classmethod
    def _read(cls, wire: dict[str, Any]) -> dict[str, Any]:
        # /classify says type, meta.model and meta.tokens; /jobs says input_type, model_used and tokens_used.
        wire = super()._read(wire)
        wire["type"] = wire["input_type"] = wire.get("input_type") or wire.get("type")
        told = {"model": "model_used", "tokens": "tokens_used", "latency_ms": "latency_ms"}
        meta = {name: wire[other] for name, other in told.items() if wire.get(other) is not None}
        wire["meta"] = {**meta, **as_map(wire.get("meta"))}
        wire.setdefault("status", "pending")
        return wire

    @property
    def done(self) -> bool:
        """Whether waiting longer can change nothing."""
        return self.status in ("completed", "failed") or self.completed_at is not None


class BatchResult(Model, Generic[L_co]):
    """The answers of one batch call, in the order of the items, one for every item that was sent."""

    id: Word = None
    status: Annotated[str, BeforeValidator(lambda value: as_word(value) or "completed")] = "completed"
    results: Annotated[tuple[Classification[L_co], ...], BeforeValidator(as_list)] = ()
    meta: Map = Field(default_factory=dict)
    created_at: Instant = None


class Limits(Model):
    """What the plan allows: decide by these, never by the plan's name. None means unlimited."""

    requests: Count = None
    resets_at: Instant = None
    media: Any = None
    schemas: Count = None
    batch_size: Count = None


class Counts(Model):
    """What has been used in the period; `remaining` is None on unlimited plans."""

    requests: Annotated[int, BeforeValidator(lambda value: as_count(value) or 0)] = 0
    remaining: Count = None
    by_type: Map = Field(default_factory=dict)
    tokens: Count = None


class Usage(Model):
    """The month's quota (API reference, Usage): `period` is YYYY-MM, `plan` an open word."""

    period: str | None = None
    plan: str | None = None
    limits: Annotated[Limits, BeforeValidator(_as_part)] = Field(default_factory=Limits)
    usage: Annotated[Counts, BeforeValidator(_as_part)] = Field(default_factory=Counts)

    @property
    def remaining(self) -> int | None:
        """Requests left until `limits.resets_at`; None when unlimited."""
        if self.usage.remaining is not None or self.limits.requests is None:
            return self.usage.remaining
        return max(0, self.limits.requests - self.usage.requests)


class Schema(Model):
    """A saved category set (API reference, Schemas). The API may leave `description` out, so never compare by it."""

    id: SchemaId
    name: str
    categories: Categories = ()
    description: str | None = None
    type: str | None = None
    mode: str | None = None
    total_uses: Count = None
    created_at: Instant = None


class WebhookEndpoint(Model):
    """A registered webhook; `secret` is there only when the server made one: store it, it is shown this once."""

    id: SchemaId
    url: str
    events: Annotated[tuple[str, ...], BeforeValidator(lambda value: tuple(as_list(value)))] = ("*",)
    secret: SecretStr | None = None
    created_at: Instant = None


class WebhookEvent(Model):
    """One delivery: a hint that something happened; the truth is the job (`jobs.get(event.id)`).

    `event` is job.completed, job.failed, batch.completed or a word still to come; `result` is as the API sent it. Only
    what `ends_job` says is the end of one.
    """

    event: str
    id: Id
    result: Any = None
    type: str | None = None
    schema_id: SchemaId | None = Field(default=None, alias="schema")
    timestamp: Instant = None

    @property
    def schema(self) -> int | str | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """The API's own name of the field; pydantic keeps a long deprecated method under it."""
        return self.schema_id

    @cached_property
    def job(self) -> Job:
        """The delivery read as a job, which is `done` where the event is its end; without results when the delivery
        carried none."""
        status = status_after(self.event)
        body = {**(self.model_extra or {}), "id": self.id, "result": self.result, "type": self.type}
        return Job.model_validate({"status": status, **body})

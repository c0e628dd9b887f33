"""The one row shape, and how a row is read and written.

The law of this file: an error never wears a label. `label` is None unless the row completed, every row says who
decided and under which policy, and what comes out of the ledger is what went in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Literal

from classifaily_connectors.enums import category_of
from classifaily_connectors.models import Classification, ErrorDetail, L_co, Label

Status = Literal["completed", "failed", "unknown", "skipped", "uncovered"]
Source = Literal["api", "ledger", "duplicate", "human"]
Decider = Literal["model", "human", "policy", "timeout"]

COLUMNS = (
    "label", "confidence", "labels", "explanation", "route", "status", "source", "decided_by", "policy", "error",
    "job_id",
)  # fmt: skip
STATUSES: tuple[Status, ...] = ("completed", "failed", "unknown", "skipped", "uncovered")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # `dumps` makes one for every call


@dataclass(slots=True, kw_only=True)
class Row(Generic[L_co]):
    """One input and what came of it.

    `index` counts from 0 in the order of the input; `columns` is the mapping that was given, or None for a bare text.
    `status` is completed, failed (the API could not), unknown (perhaps paid, answer lost), skipped (nothing to
    classify) or uncovered (the budget ended before). `source` tells a paid answer (api) from one that was there
    before (ledger) or belongs to an equal row that this run bought (duplicate); None when there is no answer. `label`
    is a member where the categories were an Enum, and then None when the answer is outside the set, which is for
    review.
    """

    index: int
    columns: Mapping[str, Any] | None = None
    label: L_co | None = None
    confidence: float | None = None
    labels: tuple[Label, ...] = ()
    explanation: str | None = None
    route: str = "review"
    status: Status = "completed"
    source: Source | None = None
    decided_by: Decider | None = None
    policy: str = ""
    error: str | None = None
    job_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The input's own columns plus the row shape, as plain data."""
        return {**(self.columns or {}), **self.shape()}

    def shape(self) -> dict[str, Any]:
        """The row shape as plain data."""
        shape = {name: getattr(self, name) for name in COLUMNS}
        if isinstance(self.label, Enum):
            shape["label"] = category_of(self.label).name
        shape["labels"] = [label.model_dump(exclude_none=True) for label in self.labels]
        return shape


@dataclass(slots=True)
class Verdict:
    """What the API said about one key: as kept in the ledger, and shared by equal rows."""

    labels: tuple[Label, ...] = ()
    error: str | None = None
    failed: bool = False
    job_id: str | None = None

    def dump(self) -> str:
        """Compact JSON for the ledger."""
        kept: dict[str, Any] = {"l": [[each.label, each.confidence, each.explanation] for each in self.labels]}
        if self.failed:
            kept["e"] = self.error or "failed"
        if self.job_id:
            kept["j"] = self.job_id
        return _encode(kept)

    @classmethod
    def load(cls, text: str) -> Verdict:
        """The verdict that `dump` wrote."""
        kept = json.loads(text)
        labels = tuple(Label.model_construct(label=label, confidence=c, explanation=e) for label, c, e in kept["l"])
        return cls(labels, kept.get("e"), "e" in kept, kept.get("j"))

    @classmethod
    def of(cls, answer: Classification, job_id: str | None) -> Verdict:
        """The verdict in an answer of the API."""
        if not answer.failed:
            return cls(answer.labels, job_id=job_id)
        return cls((), describe(answer.error), failed=True, job_id=job_id)


def describe(error: ErrorDetail | Exception | None) -> str:
    """One line for the `error` column."""
    if error is None:
        return "the API gave no reason"
    code = getattr(error, "code", None)
    text = str(error) if isinstance(error, Exception) else error.message
    return f"{code}: {text}" if code and code not in text else text

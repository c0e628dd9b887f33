"""What XCom is told of an answer.

The law of this file: small, plain JSON, and never an input.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifaily_connectors import BatchResult, Classification, Job
    from classifaily_connectors.webhooks import Settled


def answer_summary(answer: Classification) -> dict[str, Any]:
    """One input's answer."""
    return {
        "label": answer.label,
        "confidence": answer.confidence,
        "labels": [{"label": each.label, "confidence": each.confidence} for each in answer.labels],
        "explanation": answer.explanation,
        "status": answer.status,
        "error": str(answer.error) if answer.error else None,
    }


def batch_summary(answer: BatchResult | Job) -> dict[str, Any]:
    """A batch's: counts, and one small entry for each item."""
    failed = sum(each.failed for each in answer.results)
    return {
        "batch_id": answer.id,
        "status": answer.status,
        "total": len(answer.results),
        "completed": len(answer.results) - failed,
        "failed": failed,
        "labels": dict(Counter(each.label for each in answer.results if each.label is not None)),
        "results": [{"id": each.id, **answer_summary(each)} for each in answer.results],
    }


def job_summary(settled: Settled) -> dict[str, Any]:
    """A job's, and what told us of its end: `webhook`, or `poll`."""
    job = settled.job
    answer = batch_summary(job) if job.results else answer_summary(job)
    return {**answer, "job_id": settled.job_id, "settled_by": settled.settled_by}

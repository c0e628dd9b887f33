"""What the words of a webhook's event mean: an open set, of which two endings count."""

from __future__ import annotations


def ends_job(event: str) -> bool:
    """Whether a webhook's event says that its job or batch has ended: `*.completed` and `*.failed` do, and no other.

    A word still to come may tell of a beginning (job.started) or of progress (batch.progress).
    """
    return event.endswith((".completed", ".failed"))


def status_after(event: str) -> str:
    """The status of a job of which nothing is known but its webhook's event."""
    return event.rpartition(".")[2] if ends_job(event) else "processing"

"""What the step that runs is to Dagster: which attempt, of which run.

The law of this file: outside a step the answer is that of a first attempt.
"""

from __future__ import annotations

from dagster import DagsterInvariantViolationError, OpExecutionContext

_RUN_RETRY = "dagster/retry_number"
"""The tag of a run that the daemon started anew because the one before failed (`run_retries`)."""


def current_step() -> OpExecutionContext | None:
    """The context of the step that runs in this thread, None where none does."""
    try:
        return OpExecutionContext.get()
    except DagsterInvariantViolationError:
        return None


def attempt() -> int:
    """Which attempt this is, from 1, at what was asked for once: retries of the step and of the whole run count.

    What somebody runs again on purpose begins anew with 1.
    """
    step = current_step()
    if step is None:
        return 1
    of_the_run = str(step.run.tags.get(_RUN_RETRY, "0"))
    return 1 + step.retry_number + (int(of_the_run) if of_the_run.isdecimal() else 0)


def scope() -> str | None:
    """What the attempts at one step have in common, those of a run that is executed again included."""
    step = current_step()
    if step is None:
        return None
    return f"{step.run.root_run_id or step.run_id}/{step.get_step_execution_context().step.key}"

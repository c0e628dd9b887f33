"""Flows that wait without a process, served as deployments: `python waiting_flows.py FOLDER`."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, serve

from prefect_classifaily import asubmit_job, await_for_job, submit_job, wait_for_job

TEAMS = ["billing", "technical"]


@flow
def waiting(text: str, answer: Path) -> None:
    """Write the label into `answer`, a line for each time the flow comes to its end."""
    job = wait_for_job(submit_job(text, categories=TEAMS), mode="suspend")
    with answer.open("a") as file:
        file.write(f"{job.id} {job.label}\n")


@flow
async def awaiting(text: str, answer: Path) -> None:
    """The same in an async flow."""
    job = await await_for_job(await asubmit_job(text, categories=TEAMS), mode="suspend", timeout=3600)
    with answer.open("a") as file:
        file.write(f"{job.id} {job.label}\n")


@flow
def continuing(job_id: str, answer: Path) -> None:
    """Started by an automation when the job has ended."""
    job = wait_for_job(job_id)
    with answer.open("a") as file:
        file.write(f"{job.id} {job.label}\n")


if __name__ == "__main__":
    serve(*(each.to_deployment("test") for each in (waiting, awaiting, continuing)))

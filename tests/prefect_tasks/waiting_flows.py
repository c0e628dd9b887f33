"""Flows that wait without a process, served as deployments: `python waiting_flows.py FOLDER`."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, serve

from prefect_classifaily import asubmit_job, await_for_job, submit_job, wait_for_job

TEAMS = ["billing", "technical"]


def write(answer: Path, line: str) -> None:
    with answer.open("a") as file:
        file.write(f"{line}\n")


@flow
def waiting(text: str, answer: Path) -> None:
    """Write into `answer` each time the flow begins, and what it heard in the end."""
    write(answer, "begins")
    job = wait_for_job(submit_job(text, categories=TEAMS), mode="suspend")
    write(answer, f"{job.id} {job.label}")


@flow
async def awaiting(text: str, answer: Path) -> None:
    """The same in an async flow."""
    write(answer, "begins")
    job = await await_for_job(await asubmit_job(text, categories=TEAMS), mode="suspend", timeout=3600)
    write(answer, f"{job.id} {job.label}")


@flow
def continuing(job_id: str, answer: Path) -> None:
    """Started by an automation when the job has ended."""
    job = wait_for_job(job_id)
    write(answer, f"{job.id} {job.label}")


if __name__ == "__main__":
    serve(*(each.to_deployment("test") for each in (waiting, awaiting, continuing)))

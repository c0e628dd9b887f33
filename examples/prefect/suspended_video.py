"""Have a video classified without a process that waits: the run is suspended until its job has ended.

    python suspended_video.py          # serves the flow and the sweep; start it with Quick run in the Prefect UI

Only a deployment can be resumed, hence the serving. The sweep asks the API every minute for the jobs that suspended
runs wait for; with the webhook receiver and `python -m prefect_classifaily.sink`, a run is resumed at once.
"""

from typing import Any

from prefect import flow, serve
from prefect.flows import EntrypointType

from prefect_classifaily import submit_job, wait_for_job
from prefect_classifaily.sink import sweep_jobs

KINDS = ["product demo", "interview", "tutorial"]


@flow(name="suspended-video", persist_result=True)
def label_video(
    url: str = "https://example.org/tour.mp4", identity: str = "tour, first cut", credentials: str | None = None
) -> str | None:
    """What kind of video it is; `identity` changes with the video, not with its address."""
    job = submit_job(url, type="video", identity=identity, categories=KINDS, credentials=credentials)
    # Here the process ends. The run begins anew once the job has: `submit_job` then finds the same job, and is free.
    return wait_for_job(job, mode="suspend", credentials=credentials).label


def sweep(credentials: str | None = None) -> Any:
    """The sweep as a deployment that runs every minute."""
    return sweep_jobs.to_deployment(
        "every minute", interval=60, parameters={"credentials": credentials}, entrypoint_type=EntrypointType.MODULE_PATH
    )


if __name__ == "__main__":
    serve(label_video.to_deployment("example"), sweep())

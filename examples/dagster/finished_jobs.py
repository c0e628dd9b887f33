"""A run for every job that has ended: a sensor reads what the receiver of the webhook has kept, and nobody waits.

Run it: `classifaily webhooks serve` beside `dagster dev -f finished_jobs.py`, with CLASSIFAILY_KEY, the webhook's
CLASSIFAILY_WEBHOOK_SECRET, and for both the same CLASSIFAILY_STORE_URL.
"""

import dagster as dg

from dagster_classifaily import JOBS, ClassifailyResource, FinishedJob, build_webhook_sensor


@dg.asset(deps=[JOBS])
def newest_label(
    context: dg.AssetExecutionContext, config: FinishedJob, classifaily: ClassifailyResource
) -> dict[str, str | None]:
    """What the job says; the webhook only said that it has ended."""
    job = classifaily.get_job(config.job_id)
    context.add_output_metadata({"job_id": config.job_id, "status": job.status, "label": job.label or "none"})
    return {"job_id": config.job_id, "label": job.label}


when_a_job_ends = build_webhook_sensor(
    "when_a_job_ends",
    target=[newest_label],
    run_config=lambda job: dg.RunConfig(ops={"newest_label": job}),
    default_status=dg.DefaultSensorStatus.RUNNING,
)

defs = dg.Definitions(
    assets=[newest_label, dg.AssetSpec(JOBS, description="Jobs of the ClassifAIly account.")],
    sensors=[when_a_job_ends],
    resources={"classifaily": ClassifailyResource()},
    executor=dg.in_process_executor,
)

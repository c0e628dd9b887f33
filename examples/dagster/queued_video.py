"""A long input: queued by one asset, awaited by the next, so that waiting again never pays again.

Run it: `dagster asset materialize -f queued_video.py --select '*'`, with CLASSIFAILY_KEY set (video needs a Pro plan).
"""

import dagster as dg

from dagster_classifaily import ClassifailyResource


class Video(dg.Config):
    url: str = "https://example.com/unboxing-review.mp4"


@dg.asset
def video_job(config: Video, classifaily: ClassifailyResource) -> str:
    """The id of the job; costs one request, however often the step is retried or the asset materialized."""
    kinds = ["review", "advertisement", "tutorial"]
    # The address is all that is known of this video, so it stands for what lies behind it.
    return str(classifaily.submit_once(config.url, type="video", categories=kinds, identity=config.url).id)


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
def video_kind(video_job: str, classifaily: ClassifailyResource) -> str | None:
    """What the video is; waiting is free, however often it is retried."""
    return classifaily.wait_for_job(video_job).label


defs = dg.Definitions(assets=[video_job, video_kind], resources={"classifaily": ClassifailyResource()})

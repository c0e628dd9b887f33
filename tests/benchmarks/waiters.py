"""Many waiters in a process of their own: `python waiters.py ORDER`, JSON with `store`, `waiters` and `until`.

Prints `ready` once all have been looked up, waits for the deliveries of the first `until` jobs, and then prints, as
JSON, when each was awake (seconds of the machine's monotonic clock), the share of a core that this took, and how late
the event loop was by itself meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from classifaily_connectors.webhooks.place import Place
from classifaily_connectors.webhooks.waiting import POLL
from classifaily_connectors.webhooks.watching import Watch

PULSE = 0.05


async def pulse(late: list[float]) -> None:
    """What this machine adds to any wake-up, ours or another's."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(PULSE)
        late.append(time.monotonic() - began - PULSE)


async def main(order: dict[str, Any]) -> None:
    place = Place.of(order["store"], "default", None)
    assert place is not None
    watch = Watch(place.reader(POLL), place.source)
    awake: dict[str, float] = {}
    late: list[float] = []
    with contextlib.ExitStack() as stack:
        waiters = [stack.enter_context(watch.waiting(str(number))) for number in range(order["waiters"])]
        for each in waiters:
            each.arrival.add_done_callback(lambda told: awake.setdefault(told.result().job_id, time.monotonic()))
        await asyncio.gather(*(each.looked for each in waiters))
        heart = asyncio.create_task(pulse(late))
        print("ready", flush=True)
        began, spent = time.monotonic(), time.process_time()
        await asyncio.wait([each.arrival for each in waiters[: order["until"]]])
        share = (time.process_time() - spent) / (time.monotonic() - began)
        heart.cancel()
    await watch.close()
    print(json.dumps({"awake": awake, "share": share, "late": sorted(late)[int(len(late) * 0.99)]}), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))

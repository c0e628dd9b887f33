"""Waits for jobs in a process of its own, and prints by what each was settled, as JSON.

Arguments: `wait` or `fork`, and an order in JSON. `fork` waits for the first job in a thread, then forks; the child
waits for the second, the parent for the third.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

from classifaily_connectors import ClassifailyClient, JobTimeoutError
from classifaily_connectors.webhooks import wait_for_job

what, order = sys.argv[1], json.loads(sys.argv[2])
ids: list[str] = order["ids"]
seen: dict[str, str] = {}


def wait(job_id: str, deadline: float | None = None) -> None:
    with ClassifailyClient(order["key"], base_url=order["base_url"]) as client:
        settled = wait_for_job(client, job_id, store=order["store"], reconcile=(3600, 3600), deadline=deadline)
    seen[job_id] = settled.settled_by


if what == "fork":
    # Everything is imported by now: a lock that another thread holds in the moment of the fork stays locked for ever.
    with contextlib.suppress(JobTimeoutError):
        wait(ids[0], deadline=0)
    first = threading.Thread(target=wait, args=[ids[0]])
    first.start()
    while not any(each.name == "classifaily-waiting" for each in threading.enumerate()):
        first.join(0.02)
    reading, writing = os.pipe()
    # Newer Pythons warn of a fork beside threads, which is just what is done here.
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if child == 0:
        try:
            seen.clear()
            wait(ids[1])
        finally:
            os.write(writing, json.dumps(seen).encode())
            os._exit(0)
    wait(ids[2])
    first.join()
    seen |= json.loads(os.read(reading, 4096))
    os.waitpid(child, 0)
else:
    with ThreadPoolExecutor(len(ids)) as threads:
        list(threads.map(wait, ids))
print(json.dumps(seen))

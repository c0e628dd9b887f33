"""Signed webhook deliveries, at least once and in no order (API reference, Webhooks; CONTRACT.md (d), delivery).

The law of this file: nothing leaves this machine. Endpoints on loopback are contacted; any other is recorded and left
alone. One thread waits for jobs to be done by the sandbox's clock, up to sixteen more deliver.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import queue
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from .clock import stamp
from .resources import batch_meta, failure, id_view, item_view
from .validation import is_loopback
from .wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from .faults import FaultPlan
    from .service import Service
    from .state import Job, Webhook
    from .switches import Switches

_TICK = 0.02
_WORKERS = 16
_KEPT = 10_000


class Delivery(NamedTuple):
    """One attempt to deliver; `status` is None when nobody answered, or nobody was asked."""

    url: str
    event: str
    id: str
    status: int | None
    attempt: int
    """From 1; 0 when the endpoint was not contacted (off loopback, or dropped by a fault)."""


def signature(secret: str, body: bytes) -> str:
    """The signature header's value: `sha256=` and the hex HMAC of the raw body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def events_of(job: Job, switches: Switches) -> list[dict[str, Any]]:
    """The payloads a finished job gives rise to."""
    timestamp = stamp(job.ready)
    single = job.outcomes[0]
    job_event: dict[str, Any] = {"event": "job.completed", "id": id_view(job, switches)}
    if job.batch:
        event: dict[str, Any] = {"event": "batch.completed", "id": job.id}
        if switches.delivery_body == "full":
            event["results"] = [item_view(outcome, switches) for outcome in job.outcomes]
            event["meta"] = batch_meta(job)
        event["timestamp"] = timestamp
        job_event |= {"result": None}
        events = [event]
        if switches.batch_events == "batch":
            return events
    else:
        events = []
        if single.error:
            job_event["event"] = "job.failed"
        if single.error and switches.delivery_body == "full":
            job_event |= {"result": None, **failure(single.error, switches)}
        else:
            job_event["result"] = single.result
    job_event |= {"type": job.input_type, "schema": job.schema_id, "timestamp": timestamp}
    return [*events, job_event]


class Deliverer:
    """Delivers the events of finished jobs. Starts its thread with the first job; `close` ends all of them."""

    def __init__(self, service: Service, faults: FaultPlan, lock: threading.RLock, saved: Callable[[], None]) -> None:
        self.record: deque[Delivery] = deque(maxlen=_KEPT)
        self._service, self._faults, self._lock, self._saved = service, faults, lock, saved
        self._waiting: dict[str, Job] = {}
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[tuple[Job, list[tuple[Webhook, dict[str, Any]]]] | None] = queue.SimpleQueue()
        self._open: set[http.client.HTTPConnection] = set()

    def watch(self, job: Job) -> None:
        """Deliver this job's events when it is done. Called with the lock held."""
        self._waiting[job.id] = job
        self._wake.set()
        if not self._threads and not self._stopped.is_set():
            self._start(self._wait_for_jobs)

    def close(self) -> None:
        """Stop delivering and wait for the threads to end; what is under way is cut off."""
        self._stopped.set()
        self._wake.set()
        with self._lock:
            for connection in self._open:
                if connection.sock:
                    # Wakes a thread that waits for a receiver's answer.
                    connection.sock.shutdown(socket.SHUT_RDWR)
        if self._threads:
            self._threads[0].join()  # which starts the others
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="classifaily-sandbox-webhooks", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait_for_jobs(self) -> None:
        while True:
            # Cleared before anything is looked at: whatever is set from here on ends the wait below.
            self._wake.clear()
            if self._stopped.is_set():
                return
            with self._lock:
                now = self._service.clock.now().timestamp()
                due = [job for job in self._waiting.values() if job.ready <= now]
                for job in due:
                    del self._waiting[job.id]
                    self._dispatch(job)
                idle = not self._waiting
            if idle:
                self._wake.wait()
            else:
                self._stopped.wait(_TICK)

    def _dispatch(self, job: Job) -> None:
        webhooks = [webhook for webhook in self._service.state.webhooks.values() if webhook.account == job.account]
        sends = [
            (webhook, event)
            for event in events_of(job, self._service.switches)
            for webhook in webhooks
            if {"*", event["event"]} & set(webhook.events)
        ]
        if not sends:
            self._done(job)
            return
        self._queue.put((job, sends))
        if len(self._threads) <= _WORKERS:
            self._start(self._work)

    def _done(self, job: Job) -> None:
        # Only now: a sandbox that is killed in between delivers again when it comes back.
        job.notify = False
        self._service.state.touch("jobs", job.id)
        self._saved()

    def _work(self) -> None:
        # Without a timeout: with several consumers, one of Python 3.11 may come to wait for ever.
        while work := self._queue.get():
            job, sends = work
            for webhook, event in sends:
                self._deliver(webhook.url, webhook.secret, event)
            if not self._stopped.is_set():
                with self._lock:
                    self._done(job)

    def _deliver(self, url: str, secret: str, event: dict[str, Any]) -> None:
        switches = self._service.switches
        name, id = event["event"], str(event["id"])
        with self._lock:
            fault = self._faults.for_delivery(name)
        if not is_loopback(url) or (fault and fault.kind == "drop_webhook"):
            self.record.append(Delivery(url, name, id, None, 0))
            return
        if fault and fault.kind == "late_webhook":
            self._stopped.wait(fault.seconds)
        body = encode(event, php_quirks=switches.php_quirks)
        for _ in range(2 if fault and fault.kind == "duplicate_webhook" else 1):
            pause = switches.delivery_backoff
            for attempt in range(1, switches.delivery_tries + 1):
                if self._stopped.is_set():
                    return
                status = self._post(url, body, signature(secret, body))
                self.record.append(Delivery(url, name, id, status, attempt))
                if status is not None and 200 <= status < 300:  # noqa: PLR2004 (any 2xx)
                    break
                if attempt < switches.delivery_tries:
                    self._stopped.wait(pause)
                    pause *= 5

    def _post(self, url: str, body: bytes, signed: str) -> int | None:
        switches, parts = self._service.switches, urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=switches.delivery_timeout)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ClassifAIly-Webhooks/1.0",
            switches.signature_header: signed,
        }
        with self._lock:
            self._open.add(connection)
        try:
            connection.request("POST", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

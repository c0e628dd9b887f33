"""What every operation of one client shares.

The law of this file: it holds terms and what was learnt about the server, never a key, a socket or an input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from classifaily_connectors.retry import RetryPolicy


@dataclass(slots=True)
class Context:
    """`timeout` is the seconds one attempt may wait for the answer; None leaves each call its own.

    `job_by` remembers what the server speaks: `GET /jobs?id=` (API reference) or `GET /jobs/{id}` (changelog);
    `server_date` is the `Date` of the last answer, the server's own clock.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    job_by: Literal["query", "path"] | None = None
    server_date: str | None = None

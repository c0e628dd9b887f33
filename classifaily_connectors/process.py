"""Whether the process behind a run can still be at work.

The law of this file: "gone" is said only when it is certain, because a claim of a process that is gone may be taken
for an interrupted payment. Certainty needs the same machine, the same boot and the same process namespace; everyone
else has to wait for the lease to end.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

_PROC = Path("/proc")


def identity() -> str:
    """This process, told apart from every other one here, and from later ones with the same number."""
    return f"{_realm()}/{os.getpid()}/{_born(os.getpid())}"


def is_gone(process: str) -> bool:
    """Whether the process that `identity()` named has certainly ended."""
    _realm_then, pid, born = process.rsplit("/", 2)
    return is_local(process) and pid.isdecimal() and _born(int(pid)) != born


def is_local(process: str) -> bool:
    """Whether that process is, or was, one of this machine, so that `is_gone` is certain about it."""
    realm = process.rsplit("/", 2)[0]
    return bool(realm) and realm == _realm()


@functools.cache
def _realm() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The name in parentheses may hold blanks; the start time is the 22nd field, the 20th after the name. A zombie
    # ("Z") has ended: its parent just has not noticed.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]

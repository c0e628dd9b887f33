"""Answers that were paid and could not be written: they wait in a file until the store can be written again.

The law of this file: what was paid outlives the process, wherever there is room for it; a file is taken in by the store
it was meant for and by no other, only by its own user, and goes when its answers are committed. It holds what the
ledger would hold: digests and answers, never an input.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from classifaily_connectors.store.address import SQLITE

_FOLDER = "classifaily-rescued"
_OTHERS = 0o077


class Rescued(NamedTuple):
    """What one run could not write."""

    path: Path
    namespace: str
    run_id: str
    answers: dict[bytes, str]


def keep(url: str, identity: str, namespace: str, run_id: str, answers: Mapping[bytes, str]) -> Path | None:
    """Put `answers` into a file, beside the store or where else there is room; None when there is none."""
    lines = [{"namespace": namespace, "run_id": run_id}, *([key.hex(), text] for key, text in answers.items())]
    content = "".join(json.dumps(each) + "\n" for each in lines).encode()
    for folder in _folders(url):
        path = folder / f"{identity}-{run_id}-{os.urandom(4).hex()}.jsonl"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _ours(folder):
                _write(path, content)
                return path
        except OSError:
            with suppress(OSError):
                path.unlink()
    return None


def waiting(url: str, identity: str) -> Iterator[Rescued]:
    """What waits for this store on this machine."""
    for folder in _folders(url):
        if not _ours(folder):
            continue
        for path in sorted(folder.glob(f"{identity}-*.jsonl")):
            with suppress(OSError, ValueError, KeyError, TypeError):  # cut short, or taken in by another process
                head, *rows = (json.loads(line) for line in path.read_text().splitlines())
                yield Rescued(path, head["namespace"], head["run_id"], {bytes.fromhex(key): text for key, text in rows})


def _folders(url: str) -> Iterator[Path]:
    if url.startswith(SQLITE):
        yield Path(url.removeprefix(SQLITE)).expanduser().absolute().parent / _FOLDER
    with suppress(RuntimeError):  # no home folder
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        yield Path(state).expanduser() / "classifaily" / _FOLDER
    yield Path(tempfile.gettempdir()) / f"{_FOLDER}-{os.getuid()}"


def _ours(folder: Path) -> bool:
    """Whether nobody else can have put anything there."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & _OTHERS


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

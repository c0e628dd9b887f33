"""What an error may look like that leaves a public call, and what nothing may show."""

from __future__ import annotations

import pickle
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from classifaily_connectors import ClassifailyError
from tests.faults.sweep.stage import PLANTED

_VERBS = (
    "add|ask|call|change|check|choose|correct|create|decode|delete|fix|give|install|leave|let|look|make|move|name|open|pass|"
    "pick|point|put|raise|read|renew|recover|remove|repeat|restore|run|save|say|see|send|set|shorten|take|try|turn|upgrade|"
    "use|wait|write"
)
_ADVICE = re.compile(
    rf"(?:[:;,.(] |\bor |\band |^)(?:then |first )?(?:{_VERBS})\b|`classifaily |\bmust\b|\?|\brunning the same again\b"
)
"""Who is told what to do is told it with a verb, what must be, or a question that leads there."""


class Ending(NamedTuple):
    """How a call ended: what it returned or raised, what was logged meanwhile, and how many requests it was billed."""

    result: Any
    error: BaseException | None
    log: str
    billed: int


def faults_of_ending(ending: Ending, *, pays: bool) -> list[str]:
    """What is wrong with how a public call ended."""
    found = [f"the log: {each}" for each in shown(ending.log, PLANTED)]
    found += [f"the result: {each}" for each in shown(repr(ending.result), PLANTED)]
    if ending.error is not None:
        found += faults_of(ending.error, PLANTED)
    if pays:
        found += _untold(ending)
    return found


def faults_of(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """What is wrong with an error that left a public call."""
    if not isinstance(error, ClassifailyError):
        return [f"another library's error left: {type(error).__module__}.{type(error).__name__}: {str(error)[:200]}"]
    found = shown(printed(error), secrets)
    if not _ADVICE.search(str(error)):
        found.append(f"does not say what to do: {type(error).__name__}: {error}")
    again = pickle.loads(pickle.dumps(error))
    if (type(again), str(again)) != (type(error), str(error)):
        found.append(f"{type(error).__name__} does not survive a pickle")
    return found


def printed(error: BaseException) -> str:
    """All that a printer of errors can print, causes and contexts included."""
    parts = [repr(error), str(error), repr(vars(error)), "".join(traceback.format_exception(error))]
    return "\n".join(parts)


def shown(text: str, secrets: Iterable[str]) -> list[str]:
    """The secrets that the text shows."""
    return [
        f"{each[:4]}…{each[-4:]} is shown: …{text[max(0, place - 150) : place + len(each)]}"
        for each in secrets
        if (place := text.find(each)) >= 0
    ]


def _untold(ending: Ending) -> Iterator[str]:
    """What was paid, and the ending does not say."""
    error, billed = ending.error, ending.billed
    stats = getattr(error, "stats", None)
    if stats is not None:
        if not stats.billed <= billed <= stats.billed + stats.unknown:
            yield f"{billed} were billed, and it says {stats.billed} and perhaps {stats.unknown}: {error}"
        if "billed" not in str(error):
            yield f"does not say what was billed: {error}"
    elif error is None:
        rows = _rows(ending.result)
        perhaps = sum(row.status == "unknown" for row in rows)
        paid = sum(row.source == "api" for row in rows)
        if rows and not paid <= billed <= paid + perhaps:
            yield f"{billed} were billed, and the rows say {paid} and perhaps {perhaps}"
    elif billed and error.outcome != "unknown" and "is paid" not in str(error):  # type: ignore[attr-defined]
        yield f"{billed} were billed, and it does not say so: {error}"


def _rows(result: Any) -> list[Any]:
    """The rows of a bulk run, those of every axis."""
    if not isinstance(result, list):
        return []
    return [row for each in result for row in (each.axes.values() if hasattr(each, "axes") else [each])]

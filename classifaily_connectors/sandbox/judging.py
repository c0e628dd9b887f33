"""From one input to its `result` (API reference, Classification modes), scripted answers first.

The law of this file: a verdict depends on the input, its options and the switches alone; nothing is charged here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .state import Outcome
from .validation import Work, to_categories
from .verdicts import GENERIC, Matcher, Ranked, matcher_for

if TYPE_CHECKING:
    from .switches import Switches

MODEL = "classifai-v1"
UNREACHABLE = "Could not fetch input URL."


@dataclass(slots=True)
class Script:
    """What one input is answered, instead of a verdict."""

    result: Mapping[str, Any] | None = None
    """The `result` as it is to be sent; None leaves the verdict to the matcher."""
    error: Mapping[str, str] | None = None
    """code and message of a failure."""
    delay: float | None = None
    """Seconds: on the sandbox's clock until an async job is done, in real time before a synchronous answer."""
    times: int | None = None
    """How many more times it applies; None is always."""


@dataclass
class Scripts:
    """The scripted inputs. Inputs are not shown in repr."""

    by_input: dict[str, Script] = field(default_factory=dict[str, Script], repr=False)

    def take(self, input: str) -> Script | None:
        """The script for an input, counted as used."""
        script = self.by_input.get(input) if self.by_input else None
        if script and script.times is not None:
            script.times -= 1
            if script.times <= 0:
                del self.by_input[input]
        return script


def unreachable(work: Work) -> bool:
    """Whether a media URL is one of those nobody can fetch: its path says `missing`."""
    return work.type != "text" and not work.input.startswith("data:") and "missing" in urlsplit(work.input).path


def judge(work: Work, categories: list[Any] | None, mode: str, script: Script | None, switches: Switches) -> Outcome:
    """The outcome for one input among these categories (None: the generic labels)."""
    if script and script.error:
        return Outcome(work.id, error=dict(script.error))
    if script and script.result is not None:
        return Outcome(work.id, result=dict(script.result))
    if unreachable(work):
        return Outcome(work.id, error={"code": "invalid_request", "message": UNREACHABLE})
    matcher = matcher_for(GENERIC if categories is None else to_categories(categories))
    ranked = matcher.rank(work.input) if work.type == "text" else matcher.rank_media(work.input)
    if mode == "single":
        return Outcome(work.id, result=_single(work, ranked[0], matcher, switches))
    return Outcome(work.id, result={"labels": _labels(work, ranked, mode, matcher, switches)})


def _single(work: Work, best: Ranked, matcher: Matcher, switches: Switches) -> Any:
    if best.share >= work.threshold:
        return _label(work, best, best.share, matcher)
    match switches.below_threshold:
        case "null":
            return None
        case "null_label":
            return {"label": None, "confidence": 0.0}
        case "empty_list":
            return []
        case "empty_labels":
            return {"labels": []}


def _labels(work: Work, ranked: list[Ranked], mode: str, matcher: Matcher, switches: Switches) -> Any:
    kept = [one for one in ranked if one.likelihood >= work.threshold]
    if mode == "top_n":
        kept = kept[: work.top_n]
    if switches.label_order == "ascending":
        kept.reverse()
    elif switches.label_order == "given":
        kept.sort(key=lambda one: one.position)
    if switches.php_quirks and mode == "multi" and len(kept) < len(ranked):
        # array_filter keeps the keys of what it leaves, and json_encode calls a list only what counts from 0.
        kept.sort(key=lambda one: one.position)
        if [one.position for one in kept] != list(range(len(kept))):
            return {str(one.position): _label(work, one, one.likelihood, matcher) for one in kept}
    return [_label(work, one, one.likelihood, matcher) for one in kept]


def _label(work: Work, one: Ranked, confidence: float, matcher: Matcher) -> dict[str, Any]:
    label: dict[str, Any] = {"label": one.label, "confidence": confidence}
    if work.explain:
        label["explanation"] = matcher.explain(work.input, one)
    return label


def tokens_of(work: Work, categories: list[Any] | None) -> int:
    """A plausible number of tokens: about four characters each, media a flat 512."""
    prompt = 24 + 8 * len(categories or GENERIC)
    return prompt + (512 if work.type != "text" else len(work.input) // 4 + 1)


def latency_of(work: Work) -> int:
    """A plausible and repeatable latency, in milliseconds."""
    return 140 + zlib.crc32(work.input.encode()) % 120 + 600 * (work.type != "text")

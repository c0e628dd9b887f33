"""Who decides: act on an answer, act and flag it, or hand it to a human.

The law of this file: when in doubt, a human. No label, a label outside the set, a failed row and a missing confidence
are always for review, so that neither an outage nor a changed model can switch the control off.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from classifaily_connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from classifaily_connectors.models import Label

Route = Literal["act", "flag", "review"]
L = TypeVar("L")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decision:
    """A route and, in a few words, why."""

    route: Route
    reason: str


@dataclass(frozen=True)
class ConfidencePolicy:
    """Where the bars are; confidences and margins run from 0 to 1.

    At `act` or above the answer is acted on, from `review` up to `act` acted on and flagged, below it goes to a
    human (the defaults are the vendor's advice). `per_label` sets the act bar of single labels; `margin` is the lead
    over the runner-up that acting needs; `on_missing` is the route of a label without a confidence.

    Raises ConfigurationError when the bars contradict each other.
    """

    act: float = 0.85
    review: float = 0.60
    margin: float | None = None
    per_label: Mapping[str, float] = field(default_factory=dict[str, float])
    on_missing: Route = "review"

    def __post_init__(self) -> None:
        bars = {"act": self.act, "review": self.review, "margin": self.margin}
        bars |= {f"per_label[{label!r}]": bar for label, bar in self.per_label.items()}
        for name, bar in bars.items():
            if bar is not None and not (math.isfinite(bar) and 0 <= bar <= 1):
                raise ConfigurationError(f"{name} is {bar!r}; it must be a number from 0 to 1")
        if self.review > self.act:
            raise ConfigurationError(f"review ({self.review}) is above act ({self.act}): nothing could be flagged")
        if self.on_missing not in ("act", "flag", "review"):
            raise ConfigurationError(f"on_missing is {self.on_missing!r}; it must be act, flag or review")

    def decide(self, labels: Sequence[Label], *, allowed: Collection[str] | None = None) -> Decision:
        """The route for an answer whose `labels` come best first; `allowed` are the labels of the category set."""
        if not labels:
            return Decision("review", "no label")
        best = labels[0]
        if allowed is not None and best.label not in allowed:
            return Decision("review", "label outside the set")
        if best.confidence is None:
            return Decision(self.on_missing, "no confidence")
        bar = self.per_label.get(best.label, self.act)
        if best.confidence < min(self.review, bar):
            return Decision("review", f"confidence below {min(self.review, bar):g}")
        if best.confidence < bar:
            return Decision("flag", f"confidence below {bar:g}")
        runner_up = labels[1].confidence if len(labels) > 1 else None
        if self.margin is not None and runner_up is not None and best.confidence - runner_up < self.margin:
            return Decision("flag", f"lead below {self.margin:g}")
        return Decision("act", f"confidence at least {bar:g}")

    def fingerprint(self, taxonomy: str = "") -> str:
        """12 hex digits that change with any bar and with the `taxonomy` the policy was applied to."""
        bars = [self.act, self.review, self.margin, sorted(self.per_label.items()), self.on_missing, taxonomy]
        return hashlib.blake2b(json.dumps(bars).encode(), digest_size=6).hexdigest()


def check_targets(labels: Iterable[L], targets: Mapping[L, T]) -> Mapping[L, T]:
    """`targets`, once it is certain that every label leads somewhere; `labels` may be an Enum.

    Where the labels are an Enum, a `match` over its members that ends in `assert_never` finds the missing one even
    before the program runs: to a type checker it is an error.

    Raises ConfigurationError naming a label without a target, or a target for a label that does not exist.
    """
    known = dict.fromkeys(labels)
    missing = next((label for label in known if label not in targets), None)
    if missing is not None:
        raise ConfigurationError(f"no target for the label {missing!r}: every label needs one")
    unknown = next((label for label in targets if label not in known), None)
    if unknown is not None:
        raise ConfigurationError(f"a target for {unknown!r}, which is no label of the set")
    return targets

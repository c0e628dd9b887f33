"""How a run ended, whichever way it did: the error that leaves it says what was billed.

The law of this file: every error of ours that leaves a bulk or a table run carries the run's counts; one that is not
ours (Ctrl-C, what the rows' own source raised) has the counts and, as a note, the same sentence.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, cast

from classifaily_connectors.errors import ClassifailyError

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import BulkStats


class Counting(Protocol):
    """A run that counts what it does."""

    @property
    def stats(self) -> BulkStats:
        """What has been done so far."""
        ...


class Told:
    """A `with` block whose errors say how `run` ended, with its counts as they stand when the block is left."""

    def __init__(self, run: Counting) -> None:
        self._run = run

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            tell(error, self._run.stats)


def tell(error: BaseException, stats: BulkStats) -> None:
    """Say in `error` how the run ended, unless it says so already."""
    if isinstance(error, ClassifailyError):
        if error.stats is None:
            error.stats = stats
        return
    with contextlib.suppress(AttributeError, TypeError):  # an exception without room for it
        cast("Any", error).stats = stats
    sentence = stats.ending()
    if sentence not in getattr(error, "__notes__", ()):
        error.add_note(sentence)

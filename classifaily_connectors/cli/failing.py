"""How a command ends when it does not end well.

The law of this file: one line that names the fix, on stderr; never a traceback, a key or an input. Exit codes:

    0  done: every row has its answer, or held nothing to classify
    1  the API, the ledger or the disk did not do its part; what came back is kept
    2  an argument, a setting or the input is wrong; nothing was paid
    3  done, but some rows failed
    4  done, but some rows may have been paid without an answer (`classifaily ledger show`)
    5  the budget or the month's quota ended first; the output says which rows are uncovered
    6  more rows than --max-error-ratio allows have no answer; the output is complete
    130  interrupted, by Ctrl-C (143 by SIGTERM, 129 by SIGHUP); run the same command again to go on
    141  whoever read the output closed it, as `| head` does
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from classifaily_connectors.cli.stopping import Stopped
from classifaily_connectors.errors import (
    BudgetExceededError,
    ClassifailyError,
    ConfigurationError,
    ErrorRatioExceededError,
    InvalidRequestError,
    OutcomeUnknownError,
    QuotaExceededError,
)

DONE, TROUBLE, WRONG, FAILED, UNKNOWN, UNCOVERED, TOO_MANY = 0, 1, 2, 3, 4, 5, 6
CLOSED = 141
"""As a shell says of a program that SIGPIPE ended."""
TRACEBACK = "CLASSIFAILY_TRACEBACK"
_JSON, _QUOTES = "--json", "'\""
_OPTIONS = {"output": "out"}
"""Options that have another name here."""
_ARGUMENT = re.compile(
    r"\b(?P<name>text|template|prefix|identity|id_column|categories|schema|format|encoding|delimiter|quoting|output"
    r"|media_folder|on_invalid|on_unknown|max_error_ratio|batch_size|concurrency|ledger)=(?P<value>'[^']*'|\"[^\"]*\"|\d[\d.]*)?"
)

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigurationError, WRONG),
    (InvalidRequestError, WRONG),
    (ImportError, WRONG),
    (BudgetExceededError, UNCOVERED),
    (QuotaExceededError, UNCOVERED),
    (ErrorRatioExceededError, TOO_MANY),
    (OutcomeUnknownError, UNKNOWN),
)


class Commands(TyperGroup):
    """The commands, with their errors made into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            try:
                return self._run(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            _hush()
            raise typer.Exit(CLOSED) from None

    def _run(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt as error:
            stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
            _say(f"{stopped}: what came back is kept, run the same command again to go on")
            raise typer.Exit(stopped.code) from None
        except (ClassifailyError, ImportError) as error:
            _tell(error, as_json=_JSON in sys.argv[1:])
            raise typer.Exit(code_of(error)) from None
        except OSError as error:
            _say(f"error: {error.filename or 'the disk'}: {error.strerror or type(error).__name__}")
            raise typer.Exit(TROUBLE) from None
        except RuntimeError as error:  # typer's own Exit and Abort are RuntimeErrors too
            if type(error) is not RuntimeError or os.environ.get(TRACEBACK):
                raise
            _say(f"error: {_line(error)}")
            raise typer.Exit(TROUBLE) from None
        except Exception as error:
            # Its message is not ours, so it may hold anything: an input, or a piece of SQL.
            if _is_typers(error) or os.environ.get(TRACEBACK):
                raise
            _say(f"error: unexpected {type(error).__name__}: run again with {TRACEBACK}=1 to see where")
            raise typer.Exit(TROUBLE) from None


def code_of(error: BaseException) -> int:
    """The exit code for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), TROUBLE)


def _is_typers(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("click", "typer")


def _tell(error: BaseException, *, as_json: bool) -> None:
    """One line for people on stderr, or with --json an object for machines on stdout."""
    if not as_json:
        _say(f"error: {_line(error)}")
        return
    described = {"type": type(error).__name__, "message": _line(error), "outcome": getattr(error, "outcome", None)}
    typer.echo(json.dumps({"error": described}, ensure_ascii=False))


def _line(error: BaseException) -> str:
    return _ARGUMENT.sub(_as_option, " ".join(str(error).split()))


def _as_option(argument: re.Match[str]) -> str:
    """An argument of Python's as it is typed here: `on_unknown='park'` is `--on-unknown park`."""
    name, value = argument["name"], argument["value"]
    option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
    return f"{option} {value.strip(_QUOTES)}" if value else option


def _hush() -> None:
    # What is still to be written goes nowhere: the interpreter flushes at its end, and would complain.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(line: str) -> None:
    typer.echo(line, err=True)

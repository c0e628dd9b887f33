"""What several commands share: the client, the ledger's place, and printing."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.store import Ledger

BaseUrl = Annotated[str | None, typer.Option("--base-url", help="Address of the API [env: CLASSIFAILY_BASE_URL].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Submitted = Annotated[bool, typer.Option("--submitted", help="Jobs submitted one by one, instead of rows.")]
LedgerPlace = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        help="Store URL or SQLite file [env: CLASSIFAILY_STORE_URL; default: $XDG_STATE_HOME/classifaily/ledger.db].",
    ),
]


def ledger_url(given: str | None) -> str:
    """The ledger to use: the option, CLASSIFAILY_STORE_URL, or a file in the user's state folder."""
    from classifaily_connectors.store.address import default_store

    return default_store(Path(given) if given and "://" not in given else given)


@contextmanager
def open_ledger(given: str | None, *, submitted: bool = False) -> Generator[Ledger]:
    """The ledger, closed afterwards; with `submitted`, the jobs that `submit_once` keeps in it."""
    from classifaily_connectors.store import SUBMITTED, Ledger

    ledger = Ledger(ledger_url(given), namespace=SUBMITTED if submitted else "")
    try:
        yield ledger
    finally:
        ledger.close()


def open_client(base_url: str | None) -> ClassifailyClient:
    """A client with the key of the environment: on a command line, everyone on the machine could read it."""
    from classifaily_connectors.client import ClassifailyClient

    return ClassifailyClient(base_url=base_url, application="cli")


def console(*, stderr: bool = False) -> Console:
    """Where results go."""
    return Console(highlight=False, soft_wrap=True, stderr=stderr)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))

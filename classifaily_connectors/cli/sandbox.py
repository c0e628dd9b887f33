"""`classifaily sandbox`: a local ClassifAIly until it is told to stop."""

from __future__ import annotations

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from classifaily_connectors.cli.failing import TROUBLE
from classifaily_connectors.errors import ConfigurationError


class PlanName(StrEnum):
    """The plans of the API reference."""

    FREE = "free"
    STARTER = "starter"
    PRO = "pro"
    ENTERPRISE = "enterprise"


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8765,
    plan: Annotated[PlanName, typer.Option(help="Plan of the keys that name none.")] = PlanName.STARTER,
    key: Annotated[list[str] | None, typer.Option(help="Key to accept, KEY or KEY:PLAN; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes ids and generated secrets.")] = 0,
    store: Annotated[Path | None, typer.Option(help="SQLite file to remember in; else memory.")] = None,
    switch: Annotated[list[str] | None, typer.Option(help="Another answer to an open question, NAME=VALUE.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Open /__sandbox/* (faults, clock, keys, scripts).")] = False,
) -> None:
    """Serve a faithful local ClassifAIly: nothing is billed, nothing leaves this machine."""
    try:
        from classifaily_connectors.sandbox import DEFAULT_KEY, Sandbox, Switches

        keys = [_key_and_plan(word, plan) for word in key or [DEFAULT_KEY]]
        switches = Switches.parse(switch or [])
        sandbox = Sandbox(
            plan=keys[0][1],
            key=keys[0][0],
            seed=seed,
            switches=switches,
            store=store,
            admin=admin,
            host=host,
            port=port,
        )
        for more, its_plan in keys[1:]:
            sandbox.add_key(more, plan=its_plan)
    except (ConfigurationError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        sandbox.start()
    except ConfigurationError as error:
        sandbox.close()
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(TROUBLE) from None
    try:
        # Flushed, and the last line after the socket accepts: scripts wait for it.
        print(f"base URL  {sandbox.base_url}")
        print(f"bill      {sandbox.root_url}/__sandbox/bill")
        print(f"export CLASSIFAILY_KEY={sandbox.key}")
        print(f"export CLASSIFAILY_BASE_URL={sandbox.base_url}")
        print(f"ready     {sandbox.base_url}", flush=True)
        stop.wait()
    finally:
        sandbox.close()


def _key_and_plan(word: str, plan: PlanName) -> tuple[str, str]:
    key, colon, its_plan = word.partition(":")
    return key, its_plan if colon else plan.value

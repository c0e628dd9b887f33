"""`classifaily webhooks`: receiving deliveries, and looking after those received."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from classifaily_connectors.cli.common import ledger_url
from classifaily_connectors.cli.failing import TROUBLE

webhooks = typer.Typer(help="Receive deliveries, and look after those received.", no_args_is_help=True)

StorePlace = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Store URL or SQLite file [env: CLASSIFAILY_STORE_URL; default: the ledger's, "
        "$XDG_STATE_HOME/classifaily/ledger.db].",
    ),
]
SecretsFile = Annotated[
    Path | None,
    typer.Option(
        "--secrets-file",
        help="File of secrets, read again whenever it changes: lines, or JSON by source "
        "[env: CLASSIFAILY_WEBHOOK_SECRETS_FILE].",
    ),
]


@webhooks.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8766,
    store: StorePlace = None,
    secrets_file: SecretsFile = None,
    max_body: Annotated[int, typer.Option(help="Bytes of a body that are accepted.")] = 2**20,
) -> None:
    """Receive deliveries until told to stop; the secrets are those of CLASSIFAILY_WEBHOOK_SECRET, and of the file."""
    from classifaily_connectors.webhooks.receiver import Receiver
    from classifaily_connectors.webhooks.secrets import Secrets
    from classifaily_connectors.webhooks.serving import Serving, devote_process

    place = ledger_url(store)
    receiver = Receiver(place, Secrets(file=secrets_file), max_body=max_body)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    serving = Serving(receiver, host=host, port=port)
    try:
        try:
            serving.start()
        except OSError as error:
            typer.echo(f"error: cannot listen on {host}:{port}: {error.strerror}", err=True)
            raise typer.Exit(TROUBLE) from None
        # Flushed, and the last line after the socket accepts: scripts wait for it.
        print(f"store     {receiver.open()!r}")
        for source in receiver.secrets.sources:
            print(f"source    {source}")
        print(f"health    {serving.url}/-/health")
        devote_process()
        print(f"ready     {serving.url}", flush=True)
        stop.wait()
    finally:
        serving.close()

"""`classifaily webhooks`: receiving deliveries, and looking after those received."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from classifaily_connectors.cli.common import ledger_url
from classifaily_connectors.cli.failing import TROUBLE
from classifaily_connectors.errors import refuse

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
    host: Annotated[str, typer.Option(help="Address to listen on; :: is IPv6 and IPv4.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8766,
    uds: Annotated[Path | None, typer.Option(help="Unix socket to listen on, instead of a port.")] = None,
    fd: Annotated[
        int | None,
        typer.Option(help="Descriptor of a socket that listens; else systemd's (LISTEN_FDS), if there is one."),
    ] = None,
    keep_alive: Annotated[
        float, typer.Option(help="Seconds for which an idle connection is kept: more than the proxy in front keeps it.")
    ] = 5.0,
    store: StorePlace = None,
    secrets_file: SecretsFile = None,
    max_body: Annotated[int, typer.Option(help="Bytes of a body that are accepted.")] = 2**20,
) -> None:
    """Receive deliveries until told to stop; the secrets are those of CLASSIFAILY_WEBHOOK_SECRET (or of the file that
    CLASSIFAILY_WEBHOOK_SECRET_FILE names), and of the file. SIGHUP reads the files again."""
    from classifaily_connectors.webhooks.receiver import Receiver
    from classifaily_connectors.webhooks.secrets import Secrets
    from classifaily_connectors.webhooks.serving import Serving, activated, devote_process

    if not keep_alive > 0:
        raise refuse(f"keep_alive is {keep_alive}; it must be a positive number of seconds")
    if uds is not None and fd is not None:
        raise refuse("uds and fd are both given: keep one of them")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")  # what the receiver has to say goes to stderr
    place = ledger_url(store)
    receiver = Receiver(place, Secrets(file=secrets_file), max_body=max_body)
    signals: SimpleQueue[int] = SimpleQueue()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _frame: signals.put(number))
    fd = activated() if fd is None and uds is None else fd
    serving = Serving(receiver, host=host, port=port, uds=uds, fd=fd, keep_alive=keep_alive)
    try:
        try:
            serving.start()
        except OSError as error:
            typer.echo(f"error: cannot listen on {uds or f'{host}:{port}'}: {error.strerror or error}", err=True)
            raise typer.Exit(TROUBLE) from None
        # Flushed, and the last line after the socket accepts: scripts wait for it.
        print(f"store     {receiver.open()!r}")
        for source in receiver.secrets.sources:
            print(f"source    {source}")
        print(f"health    {serving.url}/-/health")
        devote_process()
        print(f"ready     {serving.url}", flush=True)
        while signals.get() == signal.SIGHUP:
            receiver.secrets.reload()
    finally:
        serving.close()

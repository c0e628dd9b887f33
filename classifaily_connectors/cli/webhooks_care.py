"""`classifaily webhooks reconcile | rotate-secret | doctor`: what needs the API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from classifaily_connectors.cli.account import print_findings
from classifaily_connectors.cli.common import BaseUrl, Json, console, ledger_url, open_client, print_json
from classifaily_connectors.cli.failing import DONE, UNKNOWN
from classifaily_connectors.cli.webhooks import SecretsFile, StorePlace, webhooks
from classifaily_connectors.cli.webhooks_listing import Source, open_inbox

__all__ = ["webhooks"]

_Url = Annotated[str, typer.Option("--url", help="Public address of the receiver, as it is registered.")]


@webhooks.command()
def reconcile(
    *,
    source: Source = None,
    store: StorePlace = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Ask the API about contradicting deliveries and about jobs that are waited for; free. Exit code 4 when some
    questions stay open."""
    from classifaily_connectors.webhooks.reconciling import reconcile as settle

    with open_inbox(store) as inbox, open_client(base_url) as client:
        done = settle(client, inbox, source=source)
    if as_json:
        print_json(asdict(done))
    else:
        console().print(
            f"conflicts: [green]{done.confirmed:,} deliveries confirmed[/], {done.refuted:,} refuted\n"
            f"expected jobs: [green]{done.settled:,} have ended[/], {done.lost:,} of them without a webhook\n"
            f"[yellow]{done.left:,} left[/]"
        )
    raise typer.Exit(UNKNOWN if done.left else DONE)


@webhooks.command("rotate-secret")
def rotate_secret(
    *,
    url: _Url,
    finish: Annotated[
        bool, typer.Option("--finish", help="Delete the old endpoint and the old secret, once the new one delivers.")
    ] = False,
    source: Annotated[str, typer.Option(help="Whose secret it is.")] = "default",
    event: Annotated[
        list[str] | None, typer.Option(help="Events to register for; else those that the present endpoint has.")
    ] = None,
    ping: Annotated[
        bool, typer.Option(help="With --finish: first send a ping that is signed with the new secret.")
    ] = True,
    secrets_file: SecretsFile = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Replace a webhook's secret without refusing a delivery: run it, wait a day, run it again with --finish.

    The new secret is written to the file of secrets, which the receiver reads again by itself; it is not shown.
    """
    from classifaily_connectors.webhooks import rotation

    file = rotation.secrets_file(secrets_file)
    with open_client(base_url) as client:
        if finish:
            done = rotation.finish(client, url, file, source=source, ping_first=ping)
        else:
            done = rotation.begin(client, url, file, source=source, events=event)
    deleted = [each.id for each in done.deleted]
    if as_json:
        print_json({"endpoint": done.endpoint.id, "deleted": deleted, "secrets": done.secrets, "file": str(file)})
    elif finish:
        console().print(f"endpoint {done.endpoint.id} stays, {len(deleted)} deleted; one secret is left in {file}")
    else:
        console().print(
            f"endpoint {done.endpoint.id} is registered; {file} holds {done.secrets} secrets, the new one first.\n"
            "Deliveries now come twice and count once. Later: the same command with --finish."
        )


@webhooks.command()
def doctor(
    *,
    url: Annotated[
        str | None, typer.Option("--url", help="Public address of the receiver; else those that are registered.")
    ] = None,
    source: Annotated[str, typer.Option(help="Whose secret to sign with.")] = "default",
    store: StorePlace = None,
    secrets_file: SecretsFile = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Send a ping through the public address, find it in the store, and count what was lost. Exit code 1 when
    something is bad."""
    from classifaily_connectors.doctor import examine_webhooks

    findings = examine_webhooks(base_url, ledger_url(store), url=url, source=source, secrets_file=secrets_file)
    print_findings(findings, as_json=as_json)

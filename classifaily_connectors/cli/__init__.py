"""The command `classifaily`.

The law of this package: a command reads its arguments, calls the library and prints; nothing is decided here.
"""

from __future__ import annotations

from typing import Annotated

try:
    import typer
except ModuleNotFoundError as error:
    raise ImportError(
        f"the command line needs {error.name}: pip install 'classifaily-connectors[cli]'", name=error.name
    ) from error

from classifaily_connectors._version import __version__

from .account import doctor as _doctor
from .account import usage as _usage
from .classify import classify as _classify
from .failing import Commands
from .ledger import ledger as _ledger
from .sandbox import serve as _serve
from .schemas import schemas as _schemas
from .webhooks_care import webhooks as _webhooks  # the last of three modules that add their commands to it

main = typer.Typer(
    name="classifaily",
    cls=Commands,
    help="Classify text, images, audio and video with ClassifAIly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # a local may hold the API key
)


@main.callback(invoke_without_command=True)
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"classifaily {__version__}")
        raise typer.Exit


main.command("classify")(_classify)
main.add_typer(_schemas, name="schemas")
main.add_typer(_ledger, name="ledger")
main.add_typer(_webhooks, name="webhooks")
main.command("usage")(_usage)
main.command("doctor")(_doctor)
main.command("sandbox")(_serve)

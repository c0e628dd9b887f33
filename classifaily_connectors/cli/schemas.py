"""`classifaily schemas`: category sets as files in git, and the account like them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from classifaily_connectors.cli.common import BaseUrl, console, open_client

if TYPE_CHECKING:
    from classifaily_connectors.schema_files import Change

schemas = typer.Typer(no_args_is_help=True, help="Saved schemas as YAML or JSON files in git.")

Paths = Annotated[list[Path], typer.Argument(help="Files, or folders with .yaml, .yml and .json files.")]
_COLOURS = {"+": "green", "-": "red", "~": "yellow"}
_WORDS = {"create": "create", "update": "update", "same": "as it is", "ambiguous": "cannot tell"}
CHANGES = 10
"""The exit code of `plan` when something would change, and of `lint --strict` when something should."""


@schemas.command("plan")
def show_plan(paths: Paths, base_url: BaseUrl = None) -> None:
    """Show what would change in the account; changes nothing. Exit code 10 when something would."""
    from classifaily_connectors.schema_files import plan, read

    with open_client(base_url) as client:
        changes = plan(read(*paths), client.schemas.list())
    _print(changes)
    if any(change.kind != "same" for change in changes):
        raise typer.Exit(CHANGES)


@schemas.command("apply")
def carry_out(
    paths: Paths,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    base_url: BaseUrl = None,
) -> None:
    """Make the account's schemas as the files say; nothing is deleted. Texts under a changed one are paid anew."""
    from classifaily_connectors.schema_files import apply, plan, read

    with open_client(base_url) as client:
        changes = plan(read(*paths), client.schemas.list())
        _print(changes)
        if all(change.kind == "same" for change in changes):
            return
        if not yes and not typer.confirm("Make it so?"):
            raise typer.Abort
        count = apply(client, changes)
    console().print(f"{count} changed.")


@schemas.command()
def lint(
    paths: Paths,
    strict: Annotated[bool, typer.Option(help="Exit with 10 when there is a warning.")] = False,
) -> None:
    """Warn of what is likely to cost accuracy: no catch-all, near-duplicate names, empty descriptions."""
    from classifaily_connectors.lint import lint as find_warnings
    from classifaily_connectors.schema_files import read

    found = 0
    for schema in read(*paths):
        for warning in find_warnings(schema.categories):
            found += 1
            console().print(f"[bold]{escape(schema.name)}[/] [yellow]{warning.rule}[/] {escape(warning.message)}")
    console().print("No warnings." if not found else f"{found} warnings.")
    if found and strict:
        raise typer.Exit(CHANGES)


@schemas.command()
def codegen(
    source: Annotated[str, typer.Argument(help="A file with one schema, or the id of a saved one.")],
    name: Annotated[str, typer.Option(help="The name of the class.")] = "Label",
    base_url: BaseUrl = None,
) -> None:
    """Print a Python Enum that stands for a schema: `classify(..., categories=Label)` takes it."""
    from classifaily_connectors.enums import source_of
    from classifaily_connectors.schema_files import read

    if source.isdecimal():
        with open_client(base_url) as client:
            categories = client.schemas.get(source).categories
    else:
        (schema, *others) = read(source)
        if others:
            raise typer.BadParameter(f"{source} holds {1 + len(others)} schemas: name a file with one")
        categories = schema.categories
    typer.echo(source_of(categories, name), nl=False)


def _print(changes: list[Change]) -> None:
    for change in changes:
        where = f" (schema {change.id})" if change.id is not None else ""
        console().print(f"[bold]{escape(change.wanted.name)}[/]{where}: {_WORDS[change.kind]}")
        for line in change.lines:
            colour = _COLOURS.get(line[:1], "red")
            console().print(f"  [{colour}]{escape(line)}[/]", highlight=False)

"""`classifaily classify`: a table in, a labelled table out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from classifaily_connectors.cli import summary
from classifaily_connectors.cli.common import BaseUrl, Json, LedgerPlace, console, ledger_url, open_client, print_json
from classifaily_connectors.cli.failing import DONE, TROUBLE, UNCOVERED
from classifaily_connectors.cli.stopping import Stopping
from classifaily_connectors.cli.streams import STREAM, spooled
from classifaily_connectors.errors import UnsettledRowsError, refuse
from classifaily_connectors.tables.report import summary as table_summary

if TYPE_CHECKING:
    from classifaily_connectors.taxonomy import CategoryLike


class InputType(StrEnum):
    """What the API classifies."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


class Mode(StrEnum):
    """How many labels a row gets."""

    SINGLE = "single"
    MULTI = "multi"
    TOP_N = "top_n"


class OnUnknown(StrEnum):
    """What to do with inputs that may have been paid without an answer."""

    PARK = "park"
    RECONCILE = "reconcile"
    RESEND = "resend"


class OnInvalid(StrEnum):
    """What to do with rows that cannot be classified."""

    RAISE = "raise"
    SKIP = "skip"


class Refresh(StrEnum):
    """What to pay for again on purpose."""

    ALL = "all"
    FAILED = "failed"


_REFRESH: dict[Refresh | None, Any] = {None: False, Refresh.ALL: True, Refresh.FAILED: "failed"}
_READ, _ASK, _SPEND, _ROUTE = "What is read", "What is asked", "What it may cost", "What becomes of it"


def classify(
    file: Annotated[
        str, typer.Argument(help="CSV, TSV, JSONL, JSON, Excel or Parquet; path, URL, folder, pattern, or - for stdin.")
    ],
    *,
    text: Annotated[str | None, typer.Option(help="Column to classify.", rich_help_panel=_READ)] = None,
    template: Annotated[
        str | None, typer.Option(help="Joins columns: 'Subject: {subject}\\n\\n{body}'.", rich_help_panel=_READ)
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Labelled table; path, URL, or - for stdout.")] = None,
    format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, json, xlsx, parquet; else by name.", rich_help_panel=_READ)
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV; else UTF-8.", rich_help_panel=_READ)] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Of a CSV: one character, or tab; else as line 1 shows.", rich_help_panel=_READ)
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would cost, and spend nothing.")] = False,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            help="a,b,c or @file (a list in JSON or YAML, or a name a line); may be given several times.",
            rich_help_panel=_ASK,
        ),
    ] = None,
    one_category: Annotated[
        bool, typer.Option("--one-category", help="A single category is meant so.", rich_help_panel=_ASK)
    ] = False,
    schema: Annotated[str | None, typer.Option(help="Id of a saved schema.", rich_help_panel=_ASK)] = None,
    type: Annotated[InputType, typer.Option(help="What the column holds.", rich_help_panel=_ASK)] = InputType.TEXT,
    mode: Annotated[Mode | None, typer.Option(help="How many labels.", rich_help_panel=_ASK)] = None,
    top_n: Annotated[int | None, typer.Option(help="1 to 10, with --mode top_n.", rich_help_panel=_ASK)] = None,
    threshold: Annotated[float | None, typer.Option(help="Least confidence, 0 to 1.", rich_help_panel=_ASK)] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Ask for a reason.", rich_help_panel=_ASK)] = False,
    identity: Annotated[
        str | None, typer.Option(help="Column that tells media apart, such as a hash.", rich_help_panel=_READ)
    ] = None,
    quoting: Annotated[
        str | None, typer.Option(help="Of a CSV: none where a quote is a letter like others.", rich_help_panel=_READ)
    ] = None,
    media_folder: Annotated[
        str | None, typer.Option(help="Where rows may name files; else the table's folder.", rich_help_panel=_READ)
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Column of row ids; they must be unique.", rich_help_panel=_READ)
    ] = None,
    on_invalid: Annotated[
        OnInvalid, typer.Option(help="Rows that cannot be classified.", rich_help_panel=_READ)
    ] = OnInvalid.RAISE,
    ledger: LedgerPlace = None,
    no_ledger: Annotated[
        bool, typer.Option("--no-ledger", help="Remember nothing: a rerun pays again.", rich_help_panel=_SPEND)
    ] = False,
    max_requests: Annotated[int | None, typer.Option(help="Buy at most so many.", rich_help_panel=_SPEND)] = None,
    reserve: Annotated[int, typer.Option(help="Leave so many of the quota.", rich_help_panel=_SPEND)] = 0,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Go as far as the budget goes, not all or nothing.", rich_help_panel=_SPEND),
    ] = False,
    refresh: Annotated[
        Refresh | None, typer.Option(help="Pay again for all rows, or for failed ones.", rich_help_panel=_SPEND)
    ] = None,
    on_unknown: Annotated[
        OnUnknown | None,
        typer.Option(
            help="Inputs perhaps paid without an answer; else the next run a minute later settles them.",
            rich_help_panel=_SPEND,
        ),
    ] = None,
    settle_after: Annotated[
        float, typer.Option(help="Seconds until such an input is settled.", rich_help_panel=_SPEND)
    ] = 60.0,
    batch_size: Annotated[int | None, typer.Option(help="Rows in a call; else the plan's.")] = None,
    concurrency: Annotated[int, typer.Option(help="Calls under way at once.")] = 16,
    act: Annotated[float, typer.Option(help="Act from this confidence on.", rich_help_panel=_ROUTE)] = 0.85,
    review: Annotated[float, typer.Option(help="Review below this confidence.", rich_help_panel=_ROUTE)] = 0.60,
    max_error_ratio: Annotated[
        float | None, typer.Option(help="Fail when more rows (0 to 1) have no answer.", rich_help_panel=_ROUTE)
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the names of our columns.", rich_help_panel=_ROUTE)] = "",
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Label a table; every distinct input is paid once, ever.

    The key comes from CLASSIFAILY_KEY. Killed or out of quota half-way? The same command goes on where it stopped.

    Exit codes: 0 done, 1 trouble, 2 wrong argument or input (nothing paid), 3 some rows failed, 4 some rows may have
    been paid without an answer, 5 budget or quota ended, 6 too many errors, 130 interrupted (143 SIGTERM, 129 SIGHUP).
    """
    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.routing import ConfidencePolicy
    from classifaily_connectors.tables import classify_table, plan_table

    if out is None and not plan:
        raise refuse("--out is missing: say where the labelled table goes, or ask for the price with --plan")
    store = None if no_ledger else ledger_url(ledger)
    options: dict[str, Any] = {
        "text": text,
        "template": None if template is None else template.replace("\\n", "\n"),
        "categories": several_categories(categories, one=one_category) if categories else None,
        "schema": schema,
        "type": type.value,
        "mode": mode and mode.value,
        "top_n": top_n,
        "threshold": threshold,
        "explain": explain,
        "identity": identity,
        "media_folder": media_folder,
        "format": format,
        "encoding": encoding,
        "delimiter": delimiter,
        "quoting": quoting,
        "id_column": id_column,
        "on_invalid": on_invalid.value,
        "ledger": store if store is not None else False,
        "on_unknown": on_unknown and on_unknown.value,
        "settle_after": settle_after,
        "refresh": _REFRESH[refresh],
        "batch_size": batch_size,
        "concurrency": concurrency,
        "policy": ConfidencePolicy(act=act, review=min(review, act)),
    }
    if out == STREAM and as_json:
        raise refuse("--json and --out - both write to standard output: choose one")
    with Stopping(), spooled(file, out, format) as (source, target), open_client(base_url) as client:
        if plan:
            planned = plan_table(client, source, **options)
            if as_json:
                print_json(summary.plan_json(planned))
            else:
                summary.show_plan(console(), planned)
            raise typer.Exit(DONE if planned.fits else TROUBLE if planned.restrictions else UNCOVERED)
        from classifaily_connectors.progress import TerminalProgress

        budget = Budget(max_requests=max_requests, reserve=reserve, on_exceeded="partial" if partial else "raise")
        with TerminalProgress(Path(file).name) as progress:
            try:
                result = classify_table(
                    client,
                    source,
                    output=target,
                    prefix=prefix,
                    max_error_ratio=max_error_ratio,
                    budget=budget,
                    progress=progress,
                    **options,
                )
            except UnsettledRowsError as error:  # the summary says so, and the exit code
                result = error.result
    if as_json:
        print_json(table_summary(result))
    else:
        summary.show(console(stderr=out == STREAM), result)
    raise typer.Exit(summary.exit_code(result.stats))


def several_categories(words: list[str], *, one: bool = False) -> list[CategoryLike]:
    """Categories from one or more `a,b,c` and `@file`, together.

    Raises InvalidRequestError for a single bare name, which is nearly always a slip, unless `one` is meant.
    """
    from classifaily_connectors.taxonomy import is_file_name

    found = [each for word in words for each in read_categories(word)]
    if len(found) == 1 and isinstance(found[0], str) and not one:
        name = found[0]
        if is_file_name(name) or Path(name).is_file():
            raise refuse(f"--categories {name} is the name of a file: write --categories @{name} to read it")
        raise refuse(
            f"--categories has only {name!r}, so every row would get it: write a,b,c, or add --one-category if that is "
            "meant"
        )
    return found


def read_categories(word: str) -> list[CategoryLike]:
    """Categories from `a,b,c`, or from `@file`: a list of names or category objects in JSON or YAML (or under
    `categories`, as in a schema file), or a text file with one name a line.

    Raises InvalidRequestError for a file that is none of them.
    """
    if not word.startswith("@"):
        return [name.strip() for name in word.split(",") if name.strip()]
    path = Path(word[1:]).expanduser()
    try:
        content = path.read_text(encoding="utf-8-sig")
        found = _parsed(content, path.suffix)
    except OSError as error:
        problem = str(error.strerror)
    except ValueError as error:  # also what is no UTF-8
        problem = f"{type(error).__name__}: is it UTF-8, and JSON or YAML as its name says?"
    else:
        if isinstance(found, Mapping):
            found = cast("Mapping[str, Any]", found).get("categories")
        if isinstance(found, list):
            return cast("list[CategoryLike]", found)
        problem = "holds no list of categories"
    raise refuse(f"--categories {path}: {problem}")


def _parsed(content: str, suffix: str) -> object:
    if suffix == ".json":
        return json.loads(content)
    if suffix in (".yaml", ".yml"):
        from classifaily_connectors.schema_files import yaml_documents

        return next(iter(yaml_documents(content)), None)
    return [line.strip() for line in content.splitlines() if line.strip() and not line.startswith("#")]

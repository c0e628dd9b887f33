"""`@classify_asset`: a function that returns a table becomes an asset that is the table, labelled.

The law of this file: what can be wrong in the arguments is refused where the asset is defined, not where it runs.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Any, cast

from dagster import (
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Backoff,
    Jitter,
    RetryPolicy,
    asset,
)

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.retry import replays
from classifaily_connectors.taxonomy import parse_categories, refuse
from dagster_classifaily.failures import as_raised
from dagster_classifaily.labelling import ERROR_RATIO, PARTITION, Step, Table, version_of
from dagster_classifaily.resource import ClassifailyResource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from dagster import AssetIn, AutomationCondition, FreshnessPolicy, PartitionsDefinition

    from classifaily_connectors.options import ClassifyTableOptions

RETRIES = RetryPolicy(max_retries=2, delay=10, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)
"""What a labelled asset has unless told otherwise: with the ledger a retry pays nothing twice."""


def classify_asset(
    *,
    name: str | None = None,
    key: str | Sequence[str] | AssetKey | None = None,
    key_prefix: str | Sequence[str] | None = None,
    ins: Mapping[str, AssetIn] | None = None,
    deps: Iterable[Any] | None = None,
    partitions_def: PartitionsDefinition[str] | None = None,
    description: str | None = None,
    group_name: str | None = None,
    owners: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    kinds: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    code_version: str | None = None,
    automation_condition: AutomationCondition[Any] | None = None,
    freshness_policy: FreshnessPolicy | None = None,
    io_manager_key: str | None = None,
    pool: str | None = None,
    retry_policy: RetryPolicy | None = RETRIES,
    resource_key: str = "classifaily",
    columns_of: str | Sequence[str] | AssetKey | None = None,
    **options: Unpack[ClassifyTableOptions],
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Make an asset of a function that returns a table: a data frame, a list of dicts, a path or URL, or a `Table`.

    The function takes what any asset's takes: upstream assets, config, resources, context. The asset is the table it
    returned with our columns added, of the same kind; with `output` (a path or URL) it is that file, and its value
    the file's address. `columns_of` names the upstream asset whose columns the table has, for the lineage in the UI.
    `options` are those of `classify_table`; the others are those of `dagster.asset`.

    Each distinct input is paid once: the ledger is the resource's `store`, or the URL `ledger`; `ledger=False` does
    without, and without retries, which would pay again, as they would with `refresh`. With `partitions_def` the
    function returns the rows of `context.partition_key`, all partitions share the ledger, and `output` says
    `{partition_key}` where the key belongs; one run takes one partition. The check `error_ratio` warns when a row has
    no answer; `max_error_ratio` (0 to 1) makes it an error that holds back downstream assets, once the labelled table
    is safe.

    Raises TypeError for an unknown option, ConfigurationError for options that contradict each other, and
    InvalidRequestError for categories that cannot work.
    """
    given = _checked(options, partitioned=partitions_def is not None)
    if not replays(given):
        if retry_policy not in (None, RETRIES):
            raise ConfigurationError(
                "a retry would pay again: leave out retry_policy, or ledger=False, refresh, resend"
            )
        retry_policy = None

    def decorate(function: Callable[..., Any]) -> AssetsDefinition:
        own = AssetKey.from_coercible(key or [*_prefix(key_prefix), name or function.__name__])
        check = AssetCheckSpec(
            ERROR_RATIO,
            asset=own,
            blocking=given.get("max_error_ratio") is not None,
            description="The share of rows that failed or whose answer was lost.",
        )
        made = asset(
            key=own,
            ins=ins,
            deps=deps,
            partitions_def=partitions_def,
            description=description or inspect.getdoc(function),
            group_name=group_name,
            owners=owners,
            tags=tags,
            kinds={"classifaily", *kinds},
            metadata=metadata,
            code_version=code_version or version_of(given),
            automation_condition=automation_condition,
            freshness_policy=freshness_policy,
            io_manager_key=io_manager_key,
            pool=pool,
            retry_policy=retry_policy,
            check_specs=[check],
        )
        return made(_labelled(function, resource_key, given, columns_of))

    return decorate


def _checked(options: ClassifyTableOptions, *, partitioned: bool) -> ClassifyTableOptions:
    from classifaily_connectors.options import ClassifyTableOptions
    from classifaily_connectors.tables.job import check_labelling

    allowed = [name for name in ClassifyTableOptions.__annotations__ if name != "progress"]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise TypeError(f"classify_asset() knows no option {unknown[0]!r}: {', '.join(allowed)}")
    check_labelling(options)
    output = options.get("output")
    if partitioned and output is not None:
        if not isinstance(output, str | os.PathLike):
            raise ConfigurationError("with partitions, output must be a path or a URL: it is different for each")
        if PARTITION not in os.fspath(output):
            raise ConfigurationError(f"output must say {PARTITION}, or every partition would replace the one before")
    given: ClassifyTableOptions = {**options}
    if (categories := options.get("categories")) is not None:
        given["categories"] = parse_categories(categories)
    if (axes := options.get("axes")) is not None:
        given["axes"] = {name: parse_categories(each, f"axes[{name!r}]") for name, each in axes.items()}
    return given


def _prefix(key_prefix: str | Sequence[str] | None) -> Sequence[str]:
    return [key_prefix] if isinstance(key_prefix, str) else key_prefix or ()


def _labelled(
    function: Callable[..., Any], resource_key: str, options: ClassifyTableOptions, columns_of: Any
) -> Callable[..., Any]:
    """`function` with the resource as one argument more, and the labelled table as its result."""
    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())
    asked = resource_key in signature.parameters
    if not asked:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(resource_key, kind, annotation=ClassifailyResource))
    upstream = None if columns_of is None else AssetKey.from_coercible(columns_of)

    def begin(arguments: dict[str, Any]) -> tuple[Step, ClassifailyResource]:
        resource = arguments[resource_key] if asked else arguments.pop(resource_key)
        return Step(AssetExecutionContext.get(), upstream), resource

    def label(*args: Any, **arguments: Any) -> Any:
        step, resource = begin(arguments)
        table = Table.of(function(*args, **arguments))
        del args, arguments  # or a traceback printed with its locals would show the rows
        given = _joined(options, table)
        return step.materialized(resource.classify_table(table.source, **step.options(given)), given)

    async def alabel(*args: Any, **arguments: Any) -> Any:
        step, resource = begin(arguments)
        table = Table.of(await function(*args, **arguments))
        del args, arguments
        given = _joined(options, table)
        return step.materialized(await resource.aclassify_table(table.source, **step.options(given)), given)

    made: Any = functools.wraps(function)(alabel if inspect.iscoroutinefunction(function) else label)
    # Dagster reads what a function wants from its signature; older versions read its annotations.
    made.__signature__ = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    said = {each.name: each.annotation for each in parameters}
    made.__annotations__ = {name: each for name, each in said.items() if each is not inspect.Parameter.empty}
    return cast("Callable[..., Any]", made)


def _joined(options: ClassifyTableOptions, table: Table) -> ClassifyTableOptions:
    early = next((name for name in ("ledger", "max_error_ratio") if name in table.options), None)
    if early is not None:  # retries and the check follow from them
        raise as_raised(refuse(f"{early} cannot come with the table: give it to classify_asset"))
    return {**options, **table.options}

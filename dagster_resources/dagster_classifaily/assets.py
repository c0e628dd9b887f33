"""`@classify_asset`: a function that returns a table becomes an asset that is the table, labelled.

The law of this file: what can be wrong in the arguments is refused where the asset is defined, not where it runs.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from typing import TYPE_CHECKING, Any, cast

from dagster import (
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Backoff,
    DagsterInvariantViolationError,
    Jitter,
    RetryPolicy,
    asset,
)
from dagster_shared.utils.warnings import PreviewWarning

from classifaily_connectors.arguments import check_names
from classifaily_connectors.errors import ConfigurationError, refuse
from classifaily_connectors.retry import replays
from classifaily_connectors.taxonomy import parse_categories
from dagster_classifaily.failures import as_raised, never
from dagster_classifaily.labelling import ERROR_RATIO, Step
from dagster_classifaily.partitions import check_partitioned
from dagster_classifaily.resource import ClassifailyResource
from dagster_classifaily.returned import Returned, Table
from dagster_classifaily.signatures import signature_of
from dagster_classifaily.stopping import interruptible, uninterrupted
from dagster_classifaily.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Unpack

    from dagster import (
        AssetIn,
        AutomationCondition,
        BackfillPolicy,
        FreshnessPolicy,
        HookDefinition,
        PartitionsDefinition,
    )

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
    config_schema: Any = None,
    required_resource_keys: AbstractSet[str] | None = None,
    resource_defs: Mapping[str, object] | None = None,
    hooks: AbstractSet[HookDefinition] | None = None,
    op_tags: Mapping[str, Any] | None = None,
    backfill_policy: BackfillPolicy | None = None,
    check_specs: Sequence[AssetCheckSpec] = (),
    pool: str | None = None,
    retry_policy: RetryPolicy | None = RETRIES,
    resource_key: str = "classifaily",
    columns_of: str | Sequence[str] | AssetKey | None = None,
    **options: Unpack[ClassifyTableOptions],
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Make an asset of a function that returns a table: a data frame, a list of dicts, a path or URL, or a `Table`.

    The function takes what any asset's takes: upstream assets, config, resources, context. It may wrap the table as
    any asset's does, in `Output` or `MaterializeResult(value=…)`, with results of its `check_specs`. The asset is the
    table it returned with our columns added, of the same kind; with `output` (a path or URL) it is that file, and its
    value the file's address. `columns_of` names the upstream asset whose columns the table has, for the lineage in
    the UI. `options` are those of `classify_table`; the others are those of `dagster.asset`.

    Each distinct input is paid once: the ledger is the resource's `store`, or the URL `ledger`; `ledger=False` does
    without, and without retries, which would pay again, as they would with `refresh`. With `partitions_def` the
    function returns the rows of `context.partition_key`, all partitions share the ledger, and `output` says
    `{partition_key}` where the key belongs, or `{date}/{region}` for the dimensions of several; one run takes one
    partition. The data version is that of the labelled content. The check `error_ratio` warns when a row has
    no answer; `max_error_ratio` (0 to 1) makes it an error that holds back downstream assets, once the labelled table
    is safe.

    Raises InvalidRequestError for an unknown option, ConfigurationError for options that contradict each other, and
    InvalidRequestError for categories that cannot work.
    """
    given = _checked(options, partitions_def)
    if not replays(given):
        if retry_policy not in (None, RETRIES):
            raise ConfigurationError(
                "a retry would pay again: leave out retry_policy, or ledger=False, refresh, resend"
            )
        retry_policy = None

    def decorate(function: Callable[..., Any]) -> AssetsDefinition:
        own = AssetKey.from_coercible(key or [*_prefix(key_prefix), name or function.__name__])
        check = _check_spec(own, partitions_def, blocking=given.get("max_error_ratio") is not None)
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
            config_schema=config_schema,
            required_resource_keys=required_resource_keys,
            resource_defs=resource_defs,
            hooks=hooks,
            op_tags=op_tags,
            backfill_policy=backfill_policy,
            pool=pool,
            retry_policy=retry_policy,
            check_specs=[check, *check_specs],
        )
        return made(_labelled(function, resource_key, given, columns_of))

    return decorate


def _check_spec(key: AssetKey, partitions: PartitionsDefinition[str] | None, *, blocking: bool) -> AssetCheckSpec:
    own: dict[str, Any] = {}
    if partitions is not None and "partitions_def" in inspect.signature(AssetCheckSpec).parameters:
        own["partitions_def"] = partitions  # or a good partition would hide a bad one's failed check
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PreviewWarning)
        return AssetCheckSpec(
            ERROR_RATIO,
            asset=key,
            blocking=blocking,
            description="The share of rows that failed or whose answer was lost.",
            **own,
        )


def _checked(options: ClassifyTableOptions, partitions: PartitionsDefinition[str] | None) -> ClassifyTableOptions:
    from classifaily_connectors.options import ClassifyTableOptions
    from classifaily_connectors.tables.job import check_labelling

    allowed = [name for name in ClassifyTableOptions.__annotations__ if name != "progress"]
    check_names(options, allowed, "classify_asset()")
    check_labelling(options)
    check_partitioned(options.get("output"), partitions)
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
    signature = signature_of(function)
    parameters = list(signature.parameters.values())
    asked = resource_key in signature.parameters
    if not asked:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(resource_key, kind, annotation=ClassifailyResource))
    upstream = None if columns_of is None else AssetKey.from_coercible(columns_of)

    def begin(args: tuple[Any, ...], arguments: dict[str, Any]) -> tuple[Step, ClassifailyResource]:
        resource = arguments[resource_key] if asked else arguments.pop(resource_key)
        resource.check_running()
        return Step(_context(args, arguments), upstream), resource

    def prepare(step: Step, returned: Returned) -> tuple[ClassifyTableOptions, ClassifyTableOptions]:
        given = _joined(options, returned.table)
        return given, step.options(given, late="output" in returned.table.options)

    def label(*args: Any, **arguments: Any) -> Any:
        with interruptible(repeatable=replays(options)):
            step, resource = begin(args, arguments)
            with _refusing():
                returned = Returned.of(function(*args, **arguments))
                del args, arguments  # or a traceback printed with its locals would show the rows
                given, told = prepare(step, returned)
            result = resource.classify_table(returned.table.source, **told)
            return step.materialized(result, given, returned, resource.ledger_of(given))

    async def work(args: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        step, resource = begin(args, arguments)
        with _refusing():
            returned = Returned.of(await function(*args, **arguments))
            del args, arguments
            given, told = prepare(step, returned)
        result = await resource.aclassify_table(returned.table.source, **told)
        return step.materialized(result, given, returned, resource.ledger_of(given))

    async def alabel(*args: Any, **arguments: Any) -> Any:
        with interruptible(repeatable=replays(options)):
            return await uninterrupted(work(args, arguments))

    made: Any = functools.wraps(function)(alabel if inspect.iscoroutinefunction(function) else label)
    # Dagster reads what a function wants from its signature; older versions read its annotations.
    made.__signature__ = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    said = {each.name: each.annotation for each in parameters}
    made.__annotations__ = {name: each for name, each in said.items() if each is not inspect.Parameter.empty}
    return cast("Callable[..., Any]", made)


def _context(args: tuple[Any, ...], arguments: dict[str, Any]) -> AssetExecutionContext | None:
    """The step's, or the one that a test hands to the function; None where it is called without."""
    try:
        return AssetExecutionContext.get()
    except DagsterInvariantViolationError:
        given = (*args, *arguments.values())
        return next((each for each in given if isinstance(each, AssetExecutionContext)), None)


@contextlib.contextmanager
def _refusing() -> Generator[None]:
    """What cannot work is not tried again; the function's own errors are its own."""
    try:
        yield
    except ConfigurationError as error:
        raise as_raised(error, never) from None


def _joined(options: ClassifyTableOptions, table: Table) -> ClassifyTableOptions:
    early = next((name for name in ("ledger", "max_error_ratio") if name in table.options), None)
    if early is not None:  # retries and the check follow from them
        raise as_raised(refuse(f"{early} cannot come with the table: give it to classify_asset"))
    return {**options, **table.options}

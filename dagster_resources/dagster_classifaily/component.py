"""`ClassifyComponent`: a labelled table as a dozen lines of YAML.

The law of this file: YAML in, `classify_asset` out. Names of columns, templates and categories are taken as they are
written, never rendered: Jinja would make a number of the category "2024", and execute an example that says `{{`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetsDefinition,
    AssetSpec,
    Backoff,
    Component,
    ComponentLoadContext,
    ComponentTypeSpec,
    Definitions,
    Jitter,
    Model,
    Resolvable,
    ResolvedAssetKey,
    ResolvedAssetSpec,
    Resolver,
    RetryPolicy,
    Scaffolder,
    ScaffoldRequest,
    scaffold_with,
)
from dagster.components import ResolutionContext, scaffold_component
from dagster.components.resolved.core_models import OpSpec
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, ConfigDict, Field, model_validator

from classifaily_connectors.bulk.budget import Budget
from classifaily_connectors.routing import ConfidencePolicy
from dagster_classifaily.assets import classify_asset
from dagster_classifaily.partitions import PARTITION, is_keyed, partition_path

_STRICT = ConfigDict(extra="forbid")
_FIELDS = (
    "text", "template", "id_column", "prefix", "identity", "media_folder", "categories", "axes", "type", "mode",
    "top_n", "threshold", "explain", "ledger", "refresh", "on_unknown", "budget", "policy", "batch_size",
    "concurrency", "settle_after", "max_error_ratio", "on_invalid", "format", "encoding", "delimiter", "quoting",
)  # fmt: skip
"""The fields that are options of `classify_table` by the same name."""


@dataclass(frozen=True)
class BudgetFields(Budget):
    """A `Budget` in YAML; a misspelled field is refused."""

    __pydantic_config__ = _STRICT


@dataclass(frozen=True)
class PolicyFields(ConfidencePolicy):
    """A `ConfidencePolicy` in YAML; a misspelled field is refused."""

    __pydantic_config__ = _STRICT


class CategoryFields(BaseModel):
    """A category object (API reference, Category objects)."""

    model_config = _STRICT

    name: str
    description: str | None = None
    examples: list[str] = Field(default_factory=list[str])


@dataclass(frozen=True)
class RetryFields:
    """A `RetryPolicy` in YAML; `max_retries: 0` is none. `delay` is in seconds."""

    __pydantic_config__ = _STRICT

    max_retries: int = 2
    delay: float | None = None
    backoff: Literal["LINEAR", "EXPONENTIAL"] | None = None
    jitter: Literal["FULL", "PLUS_MINUS"] | None = None

    def policy(self) -> RetryPolicy | None:
        """Dagster's own."""
        if self.max_retries == 0:
            return None
        backoff = None if self.backoff is None else Backoff[self.backoff]
        jitter = None if self.jitter is None else Jitter[self.jitter]
        return RetryPolicy(max_retries=self.max_retries, delay=self.delay, backoff=backoff, jitter=jitter)


def _as_written(context: ResolutionContext, value: Any) -> Any:  # noqa: ARG001
    return value


def _categories(context: Any, value: Any) -> Any:
    if isinstance(value, str):  # a template as a whole is one on purpose
        return context.resolve_value(value)
    return value and [each if isinstance(each, str) else each.model_dump(exclude_defaults=True) for each in value]


def _axes(context: Any, value: Any) -> Any:
    return value and {name: _categories(context, each) for name, each in value.items()}


def _verbatim(type: Any, description: str) -> Resolver:
    return Resolver(_as_written, model_field_type=type, description=description, inject_before_resolve=False)


class ScaffoldFields(BaseModel):
    """What `dg scaffold defs dagster_classifaily.ClassifyComponent` may be told."""

    source: str = Field(default="tickets.csv", description="Path of the table, from the project's root, or a URL.")
    output: str | None = Field(
        default=None, description="Where the labelled table goes, likewise; by default beside the source."
    )
    text: str = Field(default="body", description="The column to classify.")
    categories: str | None = Field(
        default=None, description="Their names, with commas between; without them the API has its own."
    )
    asset: str = Field(default="labelled_tickets", description="Key of the asset.")


class ClassifyScaffolder(Scaffolder[ScaffoldFields]):
    """Writes a `defs.yaml` that loads as it is, and says what it was told."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldFields]:
        """The options of the command."""
        return ScaffoldFields

    def scaffold(self, request: ScaffoldRequest[ScaffoldFields]) -> None:
        """Write it."""
        wanted = request.params
        name, dot, ending = wanted.source.rpartition("/")[2].partition(".")
        beside = wanted.source.removesuffix(name + dot + ending) + wanted.asset.replace("/", "_") + dot + ending
        attributes: dict[str, Any] = {
            "source": _from_root(wanted.source),
            "text": wanted.text,
            "output": _from_root(wanted.output or beside),
            "asset": {"key": wanted.asset},
        }
        if wanted.categories:
            attributes["categories"] = [each.strip() for each in wanted.categories.split(",") if each.strip()]
        scaffold_component(request, attributes)


def _from_root(address: str) -> str:
    """An address as it was typed in the project's root: there, and not in the folder of the YAML, it starts."""
    from classifaily_connectors.places import scheme_of

    return address if scheme_of(address) or address.startswith(("/", "{{")) else f"{{{{ project_root }}}}/{address}"


@scaffold_with(ClassifyScaffolder)
class ClassifyComponent(Component, Model, Resolvable):
    """An asset that is a table, labelled by ClassifAIly; each distinct input is paid once.

    The table is a file (`source`) or the value of another asset (`upstream`: a data frame, a list of dicts, or a path
    or URL). With `output` the asset is a file, else a frame like the upstream's.
    """

    # No error shows what a field was given: a ledger's URL may hold a password.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    source: str | None = Field(
        default=None,
        description="Path or URL of the table (.csv, .tsv, .jsonl, .parquet); relative to the folder of this file.",
    )
    upstream: ResolvedAssetKey | None = Field(default=None, description="Key of the asset whose value is the table.")
    text: Annotated[str | None, _verbatim(str | None, "The column to classify.")] = None
    template: Annotated[str | None, _verbatim(str | None, 'Joins columns: "Subject: {subject}".')] = None
    output: str | None = Field(
        default=None, description=f"Path or URL of the labelled table; says {PARTITION} when the asset has partitions."
    )
    id_column: Annotated[str | None, _verbatim(str | None, "A column whose values must be unique.")] = None
    prefix: Annotated[str, _verbatim(str, "Put before the names of our columns.")] = ""
    identity: Annotated[str | None, _verbatim(str | None, "The column that tells media apart.")] = None
    media_folder: Annotated[str | None, _verbatim(str | None, "Where rows may name files; path or URL.")] = None
    categories: Annotated[
        Sequence[str | Mapping[str, Any]] | None,
        Resolver(
            _categories,
            model_field_type=str | list[str | CategoryFields] | None,
            description="Names, or objects with name, description and examples.",
            inject_before_resolve=False,
        ),
    ] = None
    axes: Annotated[
        Mapping[str, Sequence[str | Mapping[str, Any]]] | None,
        Resolver(
            _axes,
            model_field_type=dict[str, str | list[str | CategoryFields]] | None,
            description="Several category sets by name: our columns come once for each, as `topic_label`.",
            inject_before_resolve=False,
        ),
    ] = None
    schema_id: int | str | None = Field(default=None, description="Id of a saved schema; beats `categories`.")
    type: Literal["text", "image", "audio", "video"] = "text"
    mode: Literal["single", "multi", "top_n"] | None = None
    top_n: int | None = None
    threshold: float | None = None
    explain: bool = False
    ledger: Literal[False] | str | None = Field(
        default=None,
        repr=False,
        description="Where what was paid for is kept: the resource's store, another URL, or false.",
    )
    refresh: bool | Literal["failed"] = Field(default=False, description="Pay again for all, or for what failed.")
    on_unknown: Literal["park", "reconcile", "resend"] | None = None
    budget: Annotated[BudgetFields | None, _verbatim(BudgetFields | None, "What a run may spend.")] = None
    policy: Annotated[PolicyFields | None, _verbatim(PolicyFields | None, "Who decides: act, flag, review.")] = None
    batch_size: int | None = None
    concurrency: int = 16
    settle_after: float = Field(default=60.0, description="Seconds until an input perhaps paid is settled.")
    max_error_ratio: float | None = Field(
        default=None, ge=0, le=1, description="Above it the check `error_ratio` fails and holds back what comes after."
    )
    on_invalid: Literal["raise", "skip"] = "raise"
    format: str | None = Field(default=None, description="csv, tsv, jsonl, parquet …, where the name does not tell.")
    encoding: str | None = None
    delimiter: str | None = None
    quoting: str | None = None
    asset: ResolvedAssetSpec
    resource_key: str = "classifaily"
    io_manager_key: str | None = Field(default=None, description="The IO manager of the labelled frame.")
    retry_policy: Annotated[
        RetryFields | None, _verbatim(RetryFields | None, "How often the step is repeated; by default twice.")
    ] = None
    op: OpSpec | None = Field(default=None, description="Of the op: tags, pool, backfill_policy, description.")
    translation: Annotated[
        TranslationFn[Any] | None,
        TranslationFnResolver[Any](template_vars_for_translation_fn=lambda component: {"component": component}),
    ] = None
    pool: str | None = None

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.source is None) == (self.upstream is None):
            raise ValueError("say where the table is: source (a path or URL) or upstream (an asset key), one of them")
        if self.source is not None and self.output is None:
            raise ValueError("output is missing: a table from a file is labelled into a file")
        if self.op is not None and self.op.name is not None:
            raise ValueError("op.name: the op of an asset is called after its key: leave it out")
        return self

    @classmethod
    def get_spec(cls) -> ComponentTypeSpec:
        """How `dg` lists it."""
        return ComponentTypeSpec(description=cls.__doc__, tags=["ai", "classification"])

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The one asset."""
        return Definitions(assets=[self.build_asset(context.path)])

    def get_asset_spec(self) -> AssetSpec:
        """What the asset is to Dagster: `asset`, as `translation` changes it. Override it for what YAML cannot say."""
        spec: AssetSpec = self.asset
        return spec if self.translation is None else self.translation(spec, self)

    def build_asset(self, folder: Path) -> AssetsDefinition:
        """The asset; relative paths start from `folder`. Override it to add what YAML cannot say."""
        options: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        options |= {"schema": self.schema_id, "output": self.output and _from(folder, self.output)}
        if self.retry_policy is not None:
            options["retry_policy"] = self.retry_policy.policy()
        op: Any = self.op or OpSpec()
        spec: Any = self.get_asset_spec()
        make = classify_asset(
            key=spec.key,
            ins=None if self.upstream is None else {"upstream": AssetIn(self.upstream)},
            deps=spec.deps,
            partitions_def=spec.partitions_def,
            io_manager_key=self.io_manager_key,
            op_tags=op.tags,
            backfill_policy=op.backfill_policy,
            description=spec.description or op.description or "Labelled by ClassifAIly.",
            group_name=spec.group_name,
            owners=spec.owners,
            tags=spec.tags,
            kinds=spec.kinds,
            metadata=spec.metadata,
            code_version=spec.code_version,
            automation_condition=spec.automation_condition,
            freshness_policy=spec.freshness_policy,
            pool=self.pool or op.pool,
            resource_key=self.resource_key,
            columns_of=self.upstream,
            **options,
        )
        return make(_reading(_from(folder, self.source)) if self.source is not None else _passing)


def _passing(upstream: Any) -> Any:
    return upstream


def _reading(source: str) -> Any:
    def table(context: AssetExecutionContext) -> str:
        # A source may be one for all partitions; where it says the key, the key is part of a name.
        return partition_path(source, context, "source") if is_keyed(source, context) else source

    return table


def _from(folder: Path, address: str) -> str:
    from classifaily_connectors.places import scheme_of

    return address if scheme_of(address) else str(folder / address)

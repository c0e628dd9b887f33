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
    Component,
    ComponentLoadContext,
    ComponentTypeSpec,
    Definitions,
    Model,
    Resolvable,
    ResolvedAssetKey,
    ResolvedAssetSpec,
    Resolver,
    Scaffolder,
    ScaffoldRequest,
    scaffold_with,
)
from dagster.components import ResolutionContext, scaffold_component
from pydantic import BaseModel, ConfigDict, Field, model_validator

from classifaily_connectors.bulk.budget import Budget
from classifaily_connectors.places import scheme_of
from classifaily_connectors.routing import ConfidencePolicy
from dagster_classifaily.assets import classify_asset
from dagster_classifaily.labelling import PARTITION

_STRICT = ConfigDict(extra="forbid")
_FIELDS = (
    "text", "template", "id_column", "prefix", "identity", "media_folder", "categories", "type", "mode", "top_n",
    "threshold", "explain", "ledger", "refresh", "on_unknown", "budget", "policy", "batch_size", "concurrency",
    "max_error_ratio", "on_invalid",
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


def _as_written(context: ResolutionContext, value: Any) -> Any:  # noqa: ARG001
    return value


def _categories(context: Any, value: Any) -> Any:
    if isinstance(value, str):  # a template as a whole is one on purpose
        return context.resolve_value(value)
    return value and [each if isinstance(each, str) else each.model_dump(exclude_defaults=True) for each in value]


def _verbatim(type: Any, description: str) -> Resolver:
    return Resolver(_as_written, model_field_type=type, description=description, inject_before_resolve=False)


class ScaffoldFields(BaseModel):
    """What `dg scaffold defs dagster_classifaily.ClassifyComponent` may be told."""

    source: str = "tickets.csv"
    text: str = "body"
    asset: str = "labelled_tickets"


class ClassifyScaffolder(Scaffolder[ScaffoldFields]):
    """Writes a `defs.yaml` that loads as it is."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldFields]:
        """The options of the command."""
        return ScaffoldFields

    def scaffold(self, request: ScaffoldRequest[ScaffoldFields]) -> None:
        """Write it."""
        wanted = request.params
        attributes: dict[str, Any] = {
            "source": wanted.source,
            "text": wanted.text,
            "output": f"{{{{ project_root }}}}/data/{wanted.asset}.csv",
            "categories": ["billing", {"name": "technical", "description": "Errors, outages and how-to questions."}],
            "asset": {"key": wanted.asset},
        }
        scaffold_component(request, attributes)


@scaffold_with(ClassifyScaffolder)
class ClassifyComponent(Component, Model, Resolvable):
    """An asset that is a table, labelled by ClassifAIly; each distinct input is paid once.

    The table is a file (`source`) or the value of another asset (`upstream`: a data frame, a list of dicts, or a path
    or URL). With `output` the asset is a file, else a frame like the upstream's.
    """

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
    schema_id: int | str | None = Field(default=None, description="Id of a saved schema; beats `categories`.")
    type: Literal["text", "image", "audio", "video"] = "text"
    mode: Literal["single", "multi", "top_n"] | None = None
    top_n: int | None = None
    threshold: float | None = None
    explain: bool = False
    ledger: bool | str = Field(
        default=True, description="Where what was paid for is kept: the resource's store, another URL, or false."
    )
    refresh: bool | Literal["failed"] = Field(default=False, description="Pay again for all, or for what failed.")
    on_unknown: Literal["park", "reconcile", "resend"] = "park"
    budget: Annotated[BudgetFields | None, _verbatim(BudgetFields | None, "What a run may spend.")] = None
    policy: Annotated[PolicyFields | None, _verbatim(PolicyFields | None, "Who decides: act, flag, review.")] = None
    batch_size: int | None = None
    concurrency: int | None = None
    max_error_ratio: float | None = Field(
        default=None, ge=0, le=1, description="Above it the check `error_ratio` fails and holds back what comes after."
    )
    on_invalid: Literal["raise", "skip"] = "raise"
    asset: ResolvedAssetSpec
    resource_key: str = "classifaily"
    pool: str | None = None

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.source is None) == (self.upstream is None):
            raise ValueError("say where the table is: source (a path or URL) or upstream (an asset key), one of them")
        if self.source is not None and self.output is None:
            raise ValueError("output is missing: a table from a file is labelled into a file")
        return self

    @classmethod
    def get_spec(cls) -> ComponentTypeSpec:
        """How `dg` lists it."""
        return ComponentTypeSpec(description=cls.__doc__, tags=["ai", "classification"])

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The one asset."""
        return Definitions(assets=[self.build_asset(context.path)])

    def build_asset(self, folder: Path) -> AssetsDefinition:
        """The asset; relative paths start from `folder`. Override it to add what YAML cannot say."""
        options: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        options |= {"schema": self.schema_id, "output": self.output and _from(folder, self.output)}
        spec: Any = self.asset
        make = classify_asset(
            key=spec.key,
            ins=None if self.upstream is None else {"upstream": AssetIn(self.upstream)},
            deps=spec.deps,
            partitions_def=spec.partitions_def,
            description=spec.description or "Labelled by ClassifAIly.",
            group_name=spec.group_name,
            owners=spec.owners,
            tags=spec.tags,
            kinds=spec.kinds,
            metadata=spec.metadata,
            code_version=spec.code_version,
            automation_condition=spec.automation_condition,
            freshness_policy=spec.freshness_policy,
            pool=self.pool,
            resource_key=self.resource_key,
            columns_of=self.upstream,
            **options,
        )
        return make(_reading(_from(folder, self.source)) if self.source is not None else _passing)


def _passing(upstream: Any) -> Any:
    return upstream


def _reading(source: str) -> Any:
    def table(context: AssetExecutionContext) -> str:
        return source.replace(PARTITION, context.partition_key) if context.has_partition_key else source

    return table


def _from(folder: Path, address: str) -> str:
    return address if scheme_of(address) else str(folder / address)

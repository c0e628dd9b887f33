"""One task, one ClassifAIly operation.

The law of this file: `execute` asks the hook, and hands XCom a small JSON summary that never holds an input. An input
shows where Airflow itself puts it: in Rendered Templates (the first `[core] max_templated_field_length` characters of
every template field) and, when another task produced it, in that task's XCom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.operators.base import NATIVE, ClassifailyOperator, check_share, check_top_n
from airflow_provider_classifaily.summaries import answer_summary, batch_summary

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_classifaily.operators.base import Categories, InputType, Mode, SchemaId
    from classifaily_connectors import ClassifailyClient


class ClassifailyClassifyOperator(ClassifailyOperator):
    """Classify one input (API reference, Classify); costs one request.

    `input` is a text or a public URL; with `type="image"` also a data URI. `schema` (the id of a saved schema) beats
    `categories`; with neither, the API uses generic labels. `mode` is single, multi or top_n; `top_n` runs from 1 to
    10, `threshold` from 0 to 1. `explain` asks for a sentence per label, which may quote the input.

    XCom: `{label, confidence, labels: [{label, confidence}], explanation, status, error, job_id}`; `label` is None
    when nothing reached the threshold. Raises ValueError at definition for a wrong argument, and what `fail_fast` says.
    """

    template_fields = ("classifaily_conn_id", "input", "categories", "schema")

    def __init__(
        self,
        *,
        input: str | XComArg,
        categories: Categories | None = None,
        schema: SchemaId | None = None,
        type: InputType = "text",
        mode: Mode | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(categories=categories, type=type, mode=mode, classifaily_conn_id=classifaily_conn_id, **kwargs)
        self.input = input
        self.schema = schema
        self.top_n = top_n
        self.threshold = threshold
        self.explain = explain
        check_top_n(top_n, mode)
        check_share("threshold", threshold)

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Classify, and return the summary for XCom."""
        with self._client() as client:
            answer = client.classify(
                cast("str", self.input),
                categories=self._categories,
                schema=cast("int | str | None", self.schema),
                type=self.type or "text",
                mode=self.mode,
                top_n=self.top_n,
                threshold=self.threshold,
                explain=self.explain,
            )
        self.log.info("Classified as %s, confidence %s (job %s)", answer.label, answer.confidence, answer.id)
        return {**answer_summary(answer), "job_id": answer.id}


class ClassifailyBatchOperator(ClassifailyOperator):
    """Classify several inputs in ONE API call (API reference, Batch); each item costs one request.

    `items` are inputs, or mappings with `input` and perhaps `id`, `type` and `categories`; more of them than the plan's
    `limits.batch_size` are refused before anything is sent: map the operator over chunks. The other arguments are
    those of `ClassifailyClassifyOperator`.

    XCom: `{batch_id, status, total, completed, failed, labels: {label: count}, results}`, `results` in the order of
    the items, one summary each with the item's own `id` (its position when it has none): about 150 bytes an item. An
    item that failed has status `failed`, an `error` and no label, and does not fail the task.
    """

    template_fields = ("classifaily_conn_id", "items", "categories", "schema")
    template_fields_renderers: ClassVar[dict[str, str]] = {"items": "json", "categories": "json"}

    def __init__(
        self,
        *,
        items: Sequence[str | Mapping[str, Any]] | XComArg,
        categories: Categories | None = None,
        schema: SchemaId | None = None,
        type: InputType | None = None,
        mode: Mode | None = None,
        threshold: float | None = None,
        explain: bool = False,
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(categories=categories, type=type, mode=mode, classifaily_conn_id=classifaily_conn_id, **kwargs)
        self.items = items
        self.schema = schema
        self.threshold = threshold
        self.explain = explain
        check_share("threshold", threshold)

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Classify all items, and return the summary for XCom."""
        items = cast("Sequence[str | Mapping[str, Any]]", self.items)
        # Asking is free and may be retried, whatever happens to it.
        with self._client(paid=False) as client:
            _refuse_what_is_no_list(items)
            _refuse_too_many(items, client)
        with self._client() as client:
            answer = client.batch(
                items,
                categories=self._categories,
                schema=cast("int | str | None", self.schema),
                type=self.type,
                mode=self.mode,
                threshold=self.threshold,
                explain=self.explain,
            )
        summary = batch_summary(answer)
        counts = {name: summary[name] for name in ("total", "completed", "failed", "labels")}
        self.log.info("Batch %s: %s", answer.id, counts)
        return summary


class ClassifailySchemaOperator(ClassifailyOperator):
    """Make sure that a saved schema of this name has exactly these categories (API reference, Schemas); free.

    Found, updated or created; compared by the content of the categories, `type` and `mode`, so that running it again
    changes nothing. XCom: the schema's id, for the `schema` argument of the other operators.
    """

    template_fields = ("classifaily_conn_id", "name", "categories", "description")
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        name: str | XComArg,
        categories: Categories,
        description: str | XComArg | None = None,
        type: InputType | None = None,
        mode: Mode | None = None,
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(categories=categories, type=type, mode=mode, classifaily_conn_id=classifaily_conn_id, **kwargs)
        self.name = name
        self.description = description
        if mode == "top_n":
            raise ValueError("mode is 'top_n'; a schema takes single or multi")

    def execute(self, context: Context) -> int | str:  # noqa: ARG002
        """Ensure the schema, and return its id."""
        with self._client(paid=False) as client:
            schema = client.schemas.ensure(
                cast("str", self.name),
                self._categories or (),
                description=cast("str | None", self.description),
                type=self.type,
                mode=self.mode,
            )
        self.log.info("Schema %r has id %s", schema.name, schema.id)
        return schema.id


def _refuse_what_is_no_list(items: object) -> None:
    from classifaily_connectors.errors import refuse

    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Sequence):
        kind = "None" if items is None else f"of type {cast('Any', items).__class__.__name__}"
        raise refuse(f"items is {kind}; it must be a list of inputs or of mappings with `input`; {NATIVE}")


def _refuse_too_many(items: Sequence[object], client: ClassifailyClient) -> None:
    from classifaily_connectors import InvalidRequestError

    allowed = client.usage().limits.batch_size
    if allowed is not None and len(items) > allowed:
        raise InvalidRequestError(
            f"items holds {len(items)} inputs, and the plan takes {allowed} in a batch: "
            f"use .partial(...).expand(items=chunks) with at most {allowed} in a chunk",
            outcome="not_sent",
        )

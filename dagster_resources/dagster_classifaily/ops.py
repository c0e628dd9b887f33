"""Ops made to measure, for jobs built of ops and graphs.

The law of this file: what can be wrong in the arguments is refused where the op is defined, not where it runs.
"""

from typing import TYPE_CHECKING, Any, Unpack

from dagster import In, OpDefinition, OpExecutionContext, Out, RetryPolicy, op

from classifaily_connectors.arguments import check_names
from classifaily_connectors.taxonomy import parse_categories

if TYPE_CHECKING:
    from classifaily_connectors import Classification
    from classifaily_connectors.options import ClassifyOptions


def build_classify_op(
    name: str = "classify",
    *,
    resource_key: str = "classifaily",
    description: str | None = None,
    pool: str | None = None,
    retry_policy: RetryPolicy | None = None,
    **options: "Unpack[ClassifyOptions]",
) -> OpDefinition:
    """An op that classifies its input, `item`, and returns the `Classification`; costs one request a run.

    `options` are those of `ClassifailyResource.classify`; `resource_key` is the name the resource is bound to. Label,
    confidence and job id become metadata of the output; the item does not. (Dagster keeps the word `input` to itself.)

    Raises InvalidRequestError for an unknown option and for categories that cannot work.
    """
    from classifaily_connectors.options import ClassifyOptions

    check_names(options, ClassifyOptions.__annotations__, "build_classify_op()")
    if (categories := options.get("categories")) is not None:
        options["categories"] = parse_categories(categories)

    @op(
        name=name,
        description=description or "Classify one input with ClassifAIly.",
        ins={"item": In(description="A text or a public URL; for images also bytes or a path.")},
        out=Out(description="The Classification."),
        required_resource_keys={resource_key},
        pool=pool,
        retry_policy=retry_policy,
    )
    def classify(context: OpExecutionContext, item: Any) -> Any:
        answer: Classification = getattr(context.resources, resource_key).classify(item, **options)
        known = {"label": answer.label, "confidence": answer.confidence, "job_id": answer.id}
        context.add_output_metadata({key: value for key, value in known.items() if value is not None})
        return answer

    return classify

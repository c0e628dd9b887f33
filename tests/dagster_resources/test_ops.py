"""The op factory."""

from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import Classification, InvalidRequestError
from classifaily_connectors.sandbox import Sandbox
from dagster_classifaily import ClassifailyResource, build_classify_op


def run(op: dg.OpDefinition, text: str, **resources: Any) -> dg.ExecuteInProcessResult:
    @dg.op
    def source() -> str:
        return text

    @dg.job(resource_defs=resources or {"classifaily": ClassifailyResource()})
    def job() -> None:
        op(source())

    return job.execute_in_process()


def test_it_classifies_its_input(sandbox: Sandbox) -> None:
    op = build_classify_op("sort", categories=["billing", {"name": "technical"}], mode="top_n", top_n=2)
    result = run(op, "I was charged twice for my subscription.")
    answer = result.output_for_node("sort")
    assert isinstance(answer, Classification)
    assert [label.label for label in answer.labels] == ["billing", "technical"]
    (output,) = (event for event in result.all_node_events if event.is_successful_output and event.node_name == "sort")
    metadata = output.step_output_data.metadata
    assert metadata["label"] == dg.TextMetadataValue("billing")
    assert metadata["confidence"] == dg.FloatMetadataValue(answer.confidence)
    assert "charged" not in str(metadata)


def test_the_resource_may_have_another_name(sandbox: Sandbox) -> None:
    op = build_classify_op(resource_key="support", categories=["billing", "technical"])
    assert run(op, "refund", support=ClassifailyResource()).output_for_node("classify").label == "billing"


def test_what_cannot_work_is_refused_where_it_is_defined() -> None:
    with pytest.raises(InvalidRequestError, match=r"categories\[1\].name 'a' repeats"):
        build_classify_op(categories=["a", "a"])
    with pytest.raises(InvalidRequestError, match="did you mean 'categories'"):
        build_classify_op(catgories=["a"])  # type: ignore[call-arg]


def test_retries_and_pool_are_the_ops_own() -> None:
    policy = dg.RetryPolicy(max_retries=2)
    op = build_classify_op("sort", pool="classifaily", retry_policy=policy, description="Sort.")
    assert (op.name, op.pool, op.retry_policy, op.description) == ("sort", "classifaily", policy, "Sort.")

"""A job submitted in one task and waited for in another.

The law of this file: an input is submitted once. The job's id is in the ledger as soon as the API has given it, so
that a retry, a cleared task and a worker that died pick the job up and pay nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, cast

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.operators.base import (
    ClassifailyOperator,
    check_choice,
    check_ledger,
    check_refresh,
    check_share,
    check_top_n,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_provider_classifaily.operators.base import Categories, InputType, Mode, SchemaId

ON_UNKNOWN = ("park", "resend")


class ClassifailySubmitOperator(ClassifailyOperator):
    """Queue one input (`async: true`, API reference, Classify) and hand on its job's id; costs one request, once.

    Take the result with `ClassifailyWebhookSensor(job_id=submit.output)` or `ClassifailyJobSensor`. The same input and
    the same question give the same job, in every run, also when it failed; `refresh=True` submits anew on purpose.
    Media behind a URL are told apart by `identity` (a hash, an etag); without one by the URL (but for what signs it)
    within the DAG run's task, so each run has its own job for it. `refresh=True` is not repeated by `retries`.
    A worker that dies while the request is under way leaves an open question: the task then fails, unless
    `on_unknown="resend"` (may pay twice). `ledger` is a store URL, by default the hook's. The other arguments are
    those of `ClassifailyClassifyOperator`.

    XCom: the job's id. Raises ValueError at definition for a wrong argument, and what `fail_fast` says.
    """

    template_fields = ("classifaily_conn_id", "input", "categories", "schema", "identity", "ledger", "refresh")

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
        identity: str | None = None,
        ledger: str | None = None,
        refresh: bool | str = False,
        on_unknown: Literal["park", "resend"] = "park",
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(categories=categories, type=type, mode=mode, classifaily_conn_id=classifaily_conn_id, **kwargs)
        self.input = input
        self.schema = schema
        self.top_n = top_n
        self.threshold = threshold
        self.explain = explain
        self.identity = identity
        self.ledger = ledger
        self.refresh = refresh
        self.on_unknown = on_unknown
        check_top_n(top_n, mode)
        check_share("threshold", threshold)
        check_choice("on_unknown", on_unknown, ON_UNKNOWN)

    def execute(self, context: Context) -> str | None:
        """Submit, or find what was submitted; the job's id."""
        from classifaily_connectors import submit_once
        from classifaily_connectors.retry import check_repetition

        with ExitStack() as stack:
            hook = stack.enter_context(ClassifailyHook(self.classifaily_conn_id))
            stack.enter_context(fail_fast(kept=False if self.refresh else None))
            check_refresh(self.refresh, (True, False))
            check_ledger(self._ledger)
            check_repetition({"refresh": self.refresh}, attempt=self._attempt(context))
            ledger = self._ledger or hook.store_url()
            for doubt in hook.doubts_about(ledger):
                self.log.warning("%s", doubt)
            job = submit_once(
                hook.get_conn(),
                cast("str", self.input),
                ledger=ledger,
                identity=self.identity or None,
                scope=self._scope(context),
                on_unknown=cast("Any", self.on_unknown),
                refresh=bool(self.refresh),
                categories=self._categories,
                schema=cast("int | str | None", self.schema),
                type=self.type or "text",
                mode=self.mode,
                top_n=self.top_n,
                threshold=self.threshold,
                explain=self.explain,
            )
        self.log.info("The job is %s (%s)", job.id, job.status)
        return job.id

    def _scope(self, context: Context) -> str:
        """Where a URL may stand for what lies behind it: this task, within one run of its DAG."""
        run_id = getattr(cast("Any", context).get("ti"), "run_id", "")
        return f"{self.dag_id}/{run_id}/{self.task_id}"

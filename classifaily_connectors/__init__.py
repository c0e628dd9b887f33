"""ClassifAIly for Airflow, Prefect and Dagster, and the client they share.

The law of this file: it only re-exports, and lazily (PEP 562). Orchestrators import DAG files again and again, so
`import classifaily_connectors` loads neither httpx nor pydantic; the first use of a name loads what it needs.
"""

from __future__ import annotations

from classifaily_connectors._lazy import lazy_names
from classifaily_connectors._version import __version__

TYPE_CHECKING = False  # type checkers know the name; importing `typing` would be nine tenths of this import
if TYPE_CHECKING:
    from classifaily_connectors.async_client import AsyncClassifailyClient
    from classifaily_connectors.bulk.axes import AsyncAxesRun, AxesRow, AxesRun
    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.progress import BulkStats, Progress
    from classifaily_connectors.bulk.rows import Row
    from classifaily_connectors.bulk.run import AsyncBulkRun, BulkRun
    from classifaily_connectors.bulk.submitting import asubmit_once, submit_once
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.errors import (
        APIError,
        AuthenticationError,
        BudgetExceededError,
        ClassifailyError,
        ConfigurationError,
        ErrorRatioExceededError,
        InvalidRequestError,
        JobFailedError,
        JobTimeoutError,
        MethodNotAllowedError,
        MissingPackageError,
        NotFoundError,
        NotSentError,
        OutcomeUnknownError,
        OutputBusyError,
        PlanRestrictionError,
        QuotaExceededError,
        RateLimitedError,
        SchemaNotFoundError,
        ServerError,
        SignatureError,
        StoppedError,
        StorageError,
        StoreError,
        StoreUnavailableError,
        SubscriptionInactiveError,
        UnsettledRowsError,
    )
    from classifaily_connectors.models import (
        BatchResult,
        Category,
        Classification,
        ErrorDetail,
        Job,
        Label,
        Schema,
        Usage,
        WebhookEndpoint,
        WebhookEvent,
    )
    from classifaily_connectors.retry import RetryPolicy
    from classifaily_connectors.routing import ConfidencePolicy
    from classifaily_connectors.store import Ledger
    from classifaily_connectors.tables import TableResult, aclassify_table, aplan_table, classify_table, plan_table

__all__ = [
    "APIError",
    "AsyncAxesRun",
    "AsyncBulkRun",
    "AsyncClassifailyClient",
    "AuthenticationError",
    "AxesRow",
    "AxesRun",
    "BatchResult",
    "Budget",
    "BudgetExceededError",
    "BulkRun",
    "BulkStats",
    "Category",
    "ClassifailyClient",
    "ClassifailyError",
    "Classification",
    "ConfidencePolicy",
    "ConfigurationError",
    "ErrorDetail",
    "ErrorRatioExceededError",
    "InvalidRequestError",
    "Job",
    "JobFailedError",
    "JobTimeoutError",
    "Label",
    "Ledger",
    "MethodNotAllowedError",
    "MissingPackageError",
    "NotFoundError",
    "NotSentError",
    "OutcomeUnknownError",
    "OutputBusyError",
    "Plan",
    "PlanRestrictionError",
    "Progress",
    "QuotaExceededError",
    "RateLimitedError",
    "RetryPolicy",
    "Row",
    "Schema",
    "SchemaNotFoundError",
    "ServerError",
    "SignatureError",
    "StoppedError",
    "StorageError",
    "StoreError",
    "StoreUnavailableError",
    "SubscriptionInactiveError",
    "TableResult",
    "UnsettledRowsError",
    "Usage",
    "WebhookEndpoint",
    "WebhookEvent",
    "__version__",
    "aclassify_table",
    "aplan_table",
    "asubmit_once",
    "classify_table",
    "plan_table",
    "submit_once",
]

_MODELS = ("BatchResult", "Category", "Classification", "ErrorDetail", "Job", "Label", "Schema", "Usage")
_TABLES = ("TableResult", "aclassify_table", "aplan_table", "classify_table", "plan_table")
_MODULES = {
    **dict.fromkeys(__all__, "errors"),
    **dict.fromkeys(("AsyncAxesRun", "AxesRow", "AxesRun"), "bulk.axes"),
    "AsyncBulkRun": "bulk.run",
    "AsyncClassifailyClient": "async_client",
    "ClassifailyClient": "client",
    "Budget": "bulk.budget",
    "BulkRun": "bulk.run",
    "BulkStats": "bulk.progress",
    "ConfidencePolicy": "routing",
    "Ledger": "store",
    "Plan": "bulk.plan",
    "Progress": "bulk.progress",
    "RetryPolicy": "retry",
    "Row": "bulk.rows",
    **dict.fromkeys(("asubmit_once", "submit_once"), "bulk.submitting"),
    **dict.fromkeys(_TABLES, "tables"),
    **dict.fromkeys((*_MODELS, "WebhookEndpoint", "WebhookEvent"), "models"),
}


__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)

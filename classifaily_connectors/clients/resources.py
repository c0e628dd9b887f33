"""Schemas, jobs and webhooks of the synchronous client; `async_resources` holds the twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from classifaily_connectors.operations import account, jobs, schemas
from classifaily_connectors.operations.history import read_history
from classifaily_connectors.settings import as_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import SecretStr

    from classifaily_connectors.models import Job, Schema, WebhookEndpoint
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.operations.history import History
    from classifaily_connectors.operations.jobs import Page
    from classifaily_connectors.taxonomy import CategorySet
    from classifaily_connectors.transport import SyncTransport

T = TypeVar("T")


class Resource:
    """What a client and its parts share: a transport and the context of their operations."""

    def __init__(self, transport: SyncTransport, context: Context) -> None:
        self._transport = transport
        self._context = context

    def _run(self, operation: Operation[T]) -> T:
        return self._transport.run(operation)


class Schemas(Resource):
    """Saved category sets (API reference, Schemas); need a Starter plan."""

    def create(
        self,
        name: str,
        categories: CategorySet,
        *,
        description: str | None = None,
        type: str | None = None,
        mode: str | None = None,
    ) -> Schema:
        """Save a category set. `type` is text, image, audio, video or any; `mode` is single or multi."""
        options: dict[str, Any] = {"description": description, "type": type, "mode": mode}
        return self._run(schemas.create_schema(self._context, name, categories, **options))

    def get(self, id: int | str) -> Schema:
        """The schema with this id. Raises SchemaNotFoundError."""
        return self._run(schemas.get_schema(self._context, id))

    def list(self) -> Sequence[Schema]:
        """Every schema of the account. Raises MethodNotAllowedError when the server cannot list them."""
        return self._run(schemas.list_schemas(self._context))

    def update(
        self,
        id: int | str,
        *,
        name: str | None = None,
        categories: CategorySet | None = None,
        description: str | None = None,
        type: str | None = None,
        mode: str | None = None,
    ) -> Schema:
        """Change a schema; what is not given stays. Raises MethodNotAllowedError when the server cannot."""
        options: dict[str, Any] = {"description": description, "type": type, "mode": mode}
        return self._run(schemas.update_schema(self._context, id, name=name, categories=categories, **options))

    def delete(self, id: int | str) -> None:
        """Delete a schema. Raises SchemaNotFoundError, or MethodNotAllowedError when the server cannot."""
        self._run(schemas.delete_schema(self._context, id))

    def ensure(
        self,
        name: str,
        categories: CategorySet,
        *,
        description: str | None = None,
        type: str | None = None,
        mode: str | None = None,
    ) -> Schema:
        """The schema of this name with exactly these categories: found, updated or created.

        Compared by the content of the categories, `type` and `mode`, so running it again changes nothing.
        Raises MethodNotAllowedError when the server cannot list or change schemas.
        """
        options: dict[str, Any] = {"description": description, "type": type, "mode": mode}
        return self._run(schemas.ensure_schema(self._context, name, categories, **options))


class Jobs(Resource):
    """What has been submitted (API reference, Jobs); all of it free."""

    def get(self, id: int | str) -> Job:
        """The job as it stands. Raises NotFoundError, also once the plan's history has passed."""
        return self._run(jobs.get_job(self._context, id))

    def list(
        self, *, limit: int = 20, offset: int = 0, status: str | None = None, input_type: str | None = None
    ) -> Page[Job]:
        """One page of jobs: `limit` from 1 to 100, `offset` from 0; `total` on the page when the server tells it."""
        page = jobs.list_jobs(self._context, limit=limit, offset=offset, status=status, input_type=input_type)
        return self._run(page)

    def iterate(self, *, status: str | None = None, input_type: str | None = None) -> Iterator[Job]:
        """All jobs, page by page, each once even when new ones push the pages along."""
        pages = jobs.Pages()
        while not pages.ended:
            page = self.list(limit=jobs.MAX_PAGE, offset=pages.offset, status=status, input_type=input_type)
            yield from pages.fresh(page)

    def history(self, seconds: float) -> History:
        """The results and jobs of the last `seconds`, with their ages by the server's own clock."""
        return self._run(read_history(self._context, seconds))

    def wait(self, id: int | str, *, timeout: float | None = None) -> Job:
        """The job once it has completed, looked at ever more rarely, for at most `timeout` seconds (default: 600).

        Raises JobFailedError, and JobTimeoutError carrying the job's id.
        """
        return self._run(jobs.wait_for_job(self._context, id, timeout=timeout))


class Webhooks(Resource):
    """Registered endpoints (API reference, Webhooks); need a Pro plan."""

    def create(
        self, url: str, *, events: Sequence[str] = ("*",), secret: str | SecretStr | None = None
    ) -> WebhookEndpoint:
        """Register `url` (https) for job.completed, job.failed, batch.completed or all events.

        Without `secret` the server makes one: it is in the answer, this once.
        """
        secret = as_secret(secret)
        return self._run(account.create_webhook(self._context, url, events=events, secret=secret))

    def list(self) -> Sequence[WebhookEndpoint]:
        """Every registered endpoint, without secrets."""
        return self._run(account.list_webhooks(self._context))

    def delete(self, id: int | str) -> None:
        """Remove an endpoint."""
        self._run(account.delete_webhook(self._context, id))

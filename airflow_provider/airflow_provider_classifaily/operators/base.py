"""What every operator shares: a connection, categories of some kind, and what is refused where the DAG is written.

The law of this file: an argument is checked as far as that needs nothing but the argument: its author is told when
the DAG is parsed, and the core, which checks the same again before it sends, need not be loaded for it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from airflow.sdk import BaseOperator

from airflow_provider_classifaily.errors import fail_fast, spent
from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.rendering import Rendered

if TYPE_CHECKING:
    from enum import Enum

    from airflow.sdk import Context, XComArg

    from classifaily_connectors import ClassifailyClient

    Categories = Sequence[str | Mapping[str, Any]] | type[Enum] | XComArg | str
    """Names, mappings with `name` and perhaps `description` and `examples`, or an Enum class."""
    SchemaId = int | str | XComArg

MAX_TOP_N = 10
Mode = Literal["single", "multi", "top_n"]
InputType = Literal["text", "image", "audio", "video"]
Refresh = bool | Literal["failed"]
MODES = ("single", "multi", "top_n")
NATIVE = "a template needs a DAG with render_template_as_native_obj=True"


class ClassifailyOperator(Rendered, BaseOperator):
    """What every operation needs: a connection, and categories of some kind."""

    native_fields = frozenset({"categories", "schema", "axes", "items", "ledger", "refresh", "budget", "policy"})
    native_deeply = frozenset({"budget", "policy"})
    template_fields_renderers: ClassVar[dict[str, str]] = {"categories": "json"}
    ui_color = "#e3e8ff"

    def __init__(
        self,
        *,
        categories: Categories | None,
        type: InputType | None,
        mode: Mode | None,
        classifaily_conn_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.categories = categories
        self.type = type
        self.mode = mode
        self.classifaily_conn_id = classifaily_conn_id
        check_mode(mode)

    @contextmanager
    def _client(self, *, paid: bool = True) -> Generator[ClassifailyClient]:
        from classifaily_connectors import ClassifailyError

        with ClassifailyHook(self.classifaily_conn_id) as hook, fail_fast(paid=paid):
            try:
                yield hook.get_conn()
            except ClassifailyError as error:
                if paid:
                    self.log.warning("%s", spent(error))
                raise

    @property
    def _categories(self) -> Sequence[str | Mapping[str, Any]] | None:
        """The categories once templates are rendered."""
        return plain_categories(self.categories)

    def _from_mapped(self) -> bool:
        return bool(getattr(self, "_BaseOperator__from_mapped", False))

    def _attempt(self, context: Context) -> int:
        """Which attempt this is, from 1, since somebody started or cleared the task."""
        instance = cast("Mapping[str, Any]", context).get("ti")
        if instance is None:
            return 1
        # Clearing a task leaves its tries counted, and allows `retries` more of them.
        before = max(0, getattr(instance, "max_tries", 0) - (self.retries or 0))
        return int(instance.try_number) - before


def plain_categories(categories: object) -> Sequence[str | Mapping[str, Any]] | None:
    """The categories of an Enum class as plain JSON, so that the answers' labels are texts; others as they are."""
    from classifaily_connectors.enums import categories_of, taxonomy_of
    from classifaily_connectors.taxonomy import to_wire

    taxonomy = taxonomy_of(categories)
    if taxonomy is not None:
        return to_wire(categories_of(taxonomy))
    return cast("Sequence[str | Mapping[str, Any]] | None", categories)


def check_mode(mode: str | None) -> None:
    """Raise ValueError unless the API knows the mode."""
    if mode is not None:
        check_choice("mode", mode, MODES)


def check_top_n(top_n: object, mode: str | None) -> None:
    """Raise ValueError unless `top_n` is from 1 to 10, and goes with the mode."""
    if top_n is None:
        return
    if isinstance(top_n, bool) or not isinstance(top_n, int) or not 1 <= top_n <= MAX_TOP_N:
        raise ValueError(f"top_n is {top_n!r}; it must be a whole number from 1 to {MAX_TOP_N}")
    if mode not in (None, "top_n"):
        raise ValueError(f"top_n goes with mode='top_n', not with mode={mode!r}")


def check_share(name: str, share: object) -> None:
    """Raise ValueError unless the argument is a number from 0 to 1, or None."""
    if share is None:
        return
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"{name} is {share!r}; it must be a number from 0 to 1")


def check_choice(name: str, choice: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless the argument is one of the choices."""
    if choice not in choices:
        raise ValueError(f"{name} is {choice!r}; it must be one of {', '.join(choices)}")


def check_refresh(refresh: object, choices: Sequence[object]) -> None:
    """Raise InvalidRequestError, once templates are rendered, for a truth value that became text: "False" is true."""
    from classifaily_connectors.errors import refuse

    if refresh not in choices:
        raise refuse(f"refresh is {refresh!r}; it must be one of {', '.join(map(repr, choices))}; {NATIVE}")


def check_ledger(ledger: object) -> None:
    """Raise InvalidRequestError, once templates are rendered, for a ledger that became a text: "False" is no place."""
    from classifaily_connectors.errors import refuse

    if ledger is True or ledger in ("True", "False", "None"):
        raise refuse(f"ledger is {ledger!r}; it must be a store URL, False or None; {NATIVE}")

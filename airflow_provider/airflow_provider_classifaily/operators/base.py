"""What every operator shares: a connection, categories of some kind, and what is refused where the DAG is written.

The law of this file: an argument is checked as far as that needs nothing but the argument: its author is told when
the DAG is parsed, and the core, which checks the same again before it sends, need not be loaded for it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseOperator

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from classifaily_connectors import ClassifailyClient

    Categories = Sequence[str | Mapping[str, Any]] | XComArg | str
    """Names, or mappings with `name` and perhaps `description` and `examples`."""
    SchemaId = int | str | XComArg

MAX_TOP_N = 10
MODES = ("single", "multi", "top_n")
NATIVE = "a template needs a DAG with render_template_as_native_obj=True"


class ClassifailyOperator(BaseOperator):
    """What every operation needs: a connection, and categories of some kind."""

    template_fields_renderers: ClassVar[dict[str, str]] = {"categories": "json"}
    ui_color = "#e3e8ff"

    def __init__(
        self,
        *,
        categories: Categories | None,
        type: str | None,
        mode: str | None,
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
        with ClassifailyHook(self.classifaily_conn_id) as hook, fail_fast(paid=paid):
            yield hook.get_conn()

    @property
    def _categories(self) -> Sequence[str | Mapping[str, Any]] | None:
        """The categories once templates are rendered."""
        return cast("Sequence[str | Mapping[str, Any]] | None", self.categories)


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
    from classifaily_connectors.taxonomy import refuse

    if refresh not in choices:
        raise refuse(f"refresh is {refresh!r}; it must be one of {', '.join(map(repr, choices))}; {NATIVE}")

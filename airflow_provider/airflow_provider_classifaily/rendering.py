"""What Jinja may touch: what the author of a DAG wrote, and nothing that came from data.

The law of this file: a text that another task handed on is sent as it is. Airflow renders what `expand_kwargs` brings
as if its author had written it, so a customer's text could name a connection; and with native rendering it makes
numbers of texts that look like one. Neither happens here, and no text is taken for a file's name. A ledger's password
is not among what Airflow shows as rendered.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.operator import BaseOperator as Base
    from jinja2 import Environment
else:
    Base = object


class Rendered(Base):
    """Mixed into operators and sensors, before Airflow's own base."""

    native_fields: ClassVar[Collection[str]] = ()
    """Template fields that may be something else than text; all others stay text under native rendering."""
    native_deeply: ClassVar[Collection[str]] = ()
    """Those of them whose texts inside are values too: in `{"max_requests": "{{ ... }}"}` a number is meant."""
    ledger: Any = None
    _field = ""
    _store: Any = None

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: Environment,
        seen_oids: set[int],
    ) -> None:
        # Airflow's own hook for this, called for plain and for mapped operators.
        try:
            for name in template_fields:
                if parent is self and (_is_class(getattr(self, name)) or self._is_data(name, context)):
                    continue
                self._field = name
                super()._do_render_template_fields(parent, (name,), context, jinja_env, seen_oids)
        finally:
            self._hide_ledger()

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """As Airflow does it, but for categories given as an Enum, and for texts under native rendering."""
        if isinstance(content, Enum) or _is_class(content) or id(content) in (seen_oids or ()):
            return content
        if isinstance(content, str) and jinja_env is not None and self._is_text(content) and _is_native(jinja_env):
            return _text(content, context, jinja_env)
        return super().render_template(content, context, jinja_env, seen_oids)

    def _is_text(self, content: str) -> bool:
        if self._field not in self.native_fields:
            return True
        return self._field not in self.native_deeply and content is not getattr(self, self._field, None)

    def _is_data(self, name: str, context: Context) -> bool:
        """Whether a field of a mapped operator was brought by `expand_kwargs` from another task.

        What `expand` brings from one, Airflow itself leaves alone.
        """
        known, mapped = cast("Mapping[str, Any]", context), self._mapped_as(context)
        brought = getattr(getattr(mapped, "expand_input", None), "value", None)
        if brought is None or isinstance(brought, Mapping):
            return False
        if isinstance(brought, Sequence) and isinstance(brought[known["ti"].map_index], Mapping):
            return False  # a list of dicts in the DAG's file
        written: Mapping[str, Any] = getattr(mapped, "partial_kwargs", {})
        return name not in written or written[name] is not getattr(self, name)

    def _mapped_as(self, context: Context) -> Any:
        """The mapped operator of the DAG's file that this task was made of, or this task as it stands there."""
        # Not `ti.task`: when templates are rendered, that is this one task already.
        return getattr(cast("Mapping[str, Any]", context).get("dag"), "task_dict", {}).get(self.task_id)

    def _hide_ledger(self) -> None:
        """Keep the rendered store URL for ourselves, mask it, and let Airflow show it without its password."""
        if isinstance(self.ledger, str):
            from airflow.sdk.log import mask_secret

            from classifaily_connectors.redaction import shown_url, url_secrets

            self._store = self.ledger
            for secret in url_secrets(self.ledger):
                mask_secret(secret)
            self.ledger = shown_url(self.ledger)

    @property
    def _ledger(self) -> Any:
        """`ledger` as it was given or rendered."""
        return self.ledger if self._store is None else self._store


def _is_class(value: object) -> bool:
    # Airflow calls whatever can be called in a template field: an Enum too, which is a set of categories here.
    return isinstance(value, type)


def _is_native(jinja_env: Environment) -> bool:
    from jinja2.nativetypes import NativeEnvironment

    return isinstance(jinja_env, NativeEnvironment)


def _text(content: str, context: Context, jinja_env: Environment) -> Any:
    """A template under native rendering, without Python's reading of what came out: "007" stays a text.

    An expression that is no text (None, a list) comes out as it is; a number as its digits.
    """
    template = jinja_env.from_string(content)
    names = copy.copy(cast("dict[str, Any]", context))
    names.update((name, value) for name, value in template.globals.items() if name not in names)
    try:
        made = template.new_context(names, shared=True)
        nodes = list(cast("Any", template).root_render_func(made))
    except Exception:  # noqa: BLE001  # raised again, with the template's own lines
        jinja_env.handle_exception()
    if len(nodes) == 1 and (not isinstance(nodes[0], int | float) or isinstance(nodes[0], bool)):
        return nodes[0]
    return "".join(map(str, nodes))

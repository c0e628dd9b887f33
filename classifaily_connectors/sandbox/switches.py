"""What the API's documentation leaves open, decided; and the other decision, one word away.

The law of this file: every field is one unknown (CONTRACT.md (d)) or one contradiction between the vendor's pages
(CONTRACT.md (b)). The default is the contract's own choice; each further value is another answer the real service
may give, so a client that passes its tests under all of them survives both.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, fields
from typing import Any, Literal, Union

from classifaily_connectors.errors import ConfigurationError


@dataclass(frozen=True)
class Switches:
    """The open questions of the API, each answered; see each field for its row in CONTRACT.md.

    Raises `ConfigurationError` for a value a field does not know, naming the values it does.
    """

    # --- how answers are written ------------------------------------------------------------------------------

    php_quirks: bool = False
    """Encode as PHP's json_encode does: 1.0 as 1, {} as [], filtered lists as objects, `/` and non-ASCII escaped
    (fidelity knob)."""
    answer_shape: Literal["reference", "guide", "home"] = "reference"
    """Which page's answer /classify gives: `guide` has no meta and created_at, `home` no id and type ((a))."""
    job_id_key: Literal["id", "job_id"] = "id"
    """The key of a 202's job id ((b) 7)."""
    below_threshold: Literal["null", "null_label", "empty_list", "empty_labels"] = "null"
    """`result` of mode single when nothing reaches the threshold ((d) single below threshold)."""
    label_order: Literal["descending", "ascending", "given"] = "descending"
    """Order of `labels`: by confidence, or as the categories were given ((d) label order)."""
    failure_body: Literal["object", "string", "absent"] = "object"
    """`error` of a failed item or job; `absent` leaves out an item's `result` as well ((d) failed item or job)."""
    error_shape: Literal["object", "string"] = "object"
    """Form of `error` in a refusal ((b) 12)."""
    quota_fields: Literal["in_error", "top_level", "absent"] = "in_error"
    """Where a 429 says limit, used and resets_at ((b) 13)."""
    list_envelope: Literal["named", "bare", "data"] = "named"
    """Lists as {"jobs": […], total, limit, offset}, as a bare array, or under "data" ((d) list envelope)."""
    create_status: Literal[201, 200] = 201
    """Status of a created schema or webhook ((d) create status)."""
    unlimited: Literal["null", "minus_one", "word"] = "null"
    """How "no limit" is written in /usage: null, -1 or "unlimited" ((d) unlimited)."""
    by_type: Literal["all", "used"] = "all"
    """Whether /usage lists types nobody used ((b), the PHP empty map)."""
    schema_categories: Literal["as_sent", "objects"] = "as_sent"
    """Whether a schema's plain strings come back as objects ((d) schema sub-resources)."""
    missing_item_id: Literal["null", "position"] = "null"
    """`id` of a result whose item had none ((d) items without id)."""

    job_ids: Literal["string", "integer"] = "string"
    """JSON type of a single job's id ((b) 6)."""

    # --- which calls exist ------------------------------------------------------------------------------------

    base_paths: Literal["both", "v1", "api_v1"] = "both"
    """Which base path serves; below the other everything is a plain 404 ((b) 1, (d) base path)."""
    sub_resources: Literal["all", "put", "patch", "none"] = "all"
    """Schemas and webhooks beyond the documented POST: all verbs, updates by PUT or by PATCH only, or none of them:
    405 ((d) schema, webhook sub-resources)."""
    job_lookup: Literal["both", "query", "path"] = "both"
    """Which of GET /jobs?id= and GET /jobs/{id} finds one job ((b) 5); under `path` the query's id is ignored."""
    job_by_id: Literal["bare", "listed"] = "bare"
    """Whether GET /jobs?id= answers the job itself or a list of one ((d) list envelope)."""
    job_404_code: str = "job_not_found"
    """Error code of an unknown or expired job ((d) job 404 code)."""

    # --- what is accepted, and what it costs ------------------------------------------------------------------

    over_max: Literal["refuse", "clamp"] = "refuse"
    """limit over 100 and top_n over 10: 400, or cut to the maximum ((d) limit > 100, top_n > 10)."""
    batch_limit: int | None = None
    """Items per batch actually enforced, whatever /usage says; None is the plan's own ((b) 2)."""
    batch_over_size: Literal[400, 403, 413] = 400
    """Status of a batch over the limit; the Free plan always answers 403 ((d) batch over size)."""
    free_batch: Literal["one", "none"] = "one"
    """Whether the Free plan may send a batch of one ((b) 3)."""
    batch_over_quota: Literal["reject", "partial"] = "reject"
    """A batch over the month's rest: 429 and nothing charged, or what fits is done and the rest fails by item
    ((d) batch over quota)."""
    counts: Literal["accepted", "completed"] = "accepted"
    """Which inputs count against the quota ((d) what counts)."""
    batch_async: Literal["accept", "ignore", "refuse"] = "accept"
    """`async: true` on /batch ((d) batch async)."""
    batch_precedence: Literal["item", "schema"] = "item"
    """Who wins when an item has categories and the batch a schema ((d) batch schema vs item categories)."""
    unasked_async: Literal["never", "media", "batch", "both"] = "never"
    """Which synchronous calls are answered 202 all the same ((b) 4, (d) batch async)."""
    queued_status: Literal["pending", "processing"] = "pending"
    """`status` in a 202 ((b) 4)."""
    max_body: int = 1024 * 1024
    """Bytes of a request body; more is 413 without JSON ((d) sizes)."""
    job_delay: float = 0.2
    """Seconds on the sandbox's clock until an async job is done ((d) poll interval)."""

    # --- webhooks ---------------------------------------------------------------------------------------------

    secret_in_answer: Literal["generated", "always", "never"] = "generated"  # noqa: S105 (no secret, but when)
    """When the answer to a webhook's creation holds its secret ((d) webhook create)."""
    signature_header: Literal["X-ClassifAIly-Signature", "X-Classifai-Signature"] = "X-ClassifAIly-Signature"
    """Spelling of the signature's header ((b) 8)."""
    delivery_body: Literal["full", "ids"] = "full"
    """Whether job.failed and batch.completed carry error and results, or ids only ((d) their body)."""
    batch_events: Literal["batch", "both"] = "batch"
    """Whether a batch sends job.completed as well ((d) delivery)."""
    notify_sync: bool = False
    """Whether calls answered at once fire events too (R: "when a job event fires")."""
    delivery_timeout: float = 10.0
    """Seconds a receiver may take ((d) delivery)."""
    delivery_tries: int = 3
    """Attempts per delivery, one at least ((d) delivery)."""
    delivery_backoff: float = 1.0
    """Seconds before the second attempt; each further wait is five times the last ((d) delivery)."""

    def __post_init__(self) -> None:
        for name, hint in _hints().items():
            value = getattr(self, name)
            choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
            if choices and value not in choices:
                raise ConfigurationError(f"switch {name} must be one of {_words(choices)}, not {value!r}")

    @classmethod
    def parse(cls, settings: typing.Iterable[str]) -> Switches:
        """Read `name=value` words, as the command line gives them; raises `ConfigurationError` naming the word."""
        values: dict[str, Any] = {}
        hints = _hints()
        for setting in settings:
            name, equals, word = setting.partition("=")
            if not equals or name not in hints:
                raise ConfigurationError(f"unknown switch {setting!r}; write NAME=VALUE, NAME one of {_words(hints)}")
            values[name] = _read(name, word, hints[name])
        return cls(**values)


def _hints() -> dict[str, Any]:
    hints = typing.get_type_hints(Switches)
    return {field.name: hints[field.name] for field in fields(Switches)}


def _read(name: str, word: str, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is Literal:
        by_word = {str(choice): choice for choice in typing.get_args(hint)}
        if word not in by_word:
            raise ConfigurationError(f"switch {name} must be one of {_words(by_word)}, not {word!r}")
        return by_word[word]
    if origin in (Union, types.UnionType):
        return None if word == "none" else _read(name, word, typing.get_args(hint)[0])
    if hint is bool:
        if word not in ("true", "false"):
            raise ConfigurationError(f"switch {name} must be true or false, not {word!r}")
        return word == "true"
    try:
        return hint(word)
    except ValueError:
        raise ConfigurationError(f"switch {name} must be {hint.__name__}, not {word!r}") from None


def _words(choices: typing.Iterable[object]) -> str:
    return ", ".join(str(choice) for choice in choices)

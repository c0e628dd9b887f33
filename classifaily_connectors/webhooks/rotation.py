"""A new secret for an endpoint, without a moment in which a good delivery is refused.

The law of this file: the receiver knows a secret before the API signs with it, and still knows it after the API has
ceased to. So: the new secret into the file, then a second endpoint that signs with it; later the old endpoint goes,
then its secret. In between every delivery comes twice, which the inbox counts as a repeat.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from classifaily_connectors.errors import ClassifailyError, ConfigurationError
from classifaily_connectors.webhooks.secrets import FILE_VARIABLE, Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.models import WebhookEndpoint

_BYTES = 32
_BEFORE_AND_AFTER = 2


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was done: the endpoint that signs with the newest secret, those that were deleted, and how many secrets
    the file now holds for the source."""

    endpoint: WebhookEndpoint
    deleted: tuple[WebhookEndpoint, ...]
    secrets: int


def begin(client: ClassifailyClient, url: str, file: Path, *, source: str, events: Sequence[str] = ("*",)) -> Rotation:
    """Put a new secret first in `file`, then register `url` once more, signing with it.

    Raises ConfigurationError when the file cannot be read, and what registering raises: then the file is as before,
    unless nobody knows whether the endpoint was made (OutcomeUnknownError).
    """
    before = _read(file)
    new = SecretStr(secrets.token_hex(_BYTES))
    after = {**before, source: (new, *before.get(source, ()))}
    _write(file, after)
    try:
        endpoint = client.webhooks.create(url, events=events, secret=new)
    except ClassifailyError as error:
        if error.outcome in ("not_sent", "rejected"):
            _write(file, before)
        raise
    return Rotation(endpoint, (), len(after[source]))


def finish(client: ClassifailyClient, url: str, file: Path, *, source: str) -> Rotation:
    """Delete all endpoints of `url` but the newest, then all secrets of the source in `file` but the first.

    Raises ConfigurationError when there are not two endpoints with this address; MethodNotAllowedError when the API
    cannot list or delete endpoints: then the dashboard can.
    """
    ours = sorted((each for each in client.webhooks.list() if each.url == url), key=_age)
    if len(ours) < _BEFORE_AND_AFTER:
        raise ConfigurationError(f"{len(ours)} endpoints are registered for {url}: there is no rotation to finish")
    *old, newest = ours
    for each in old:
        client.webhooks.delete(each.id)
    known = _read(file)
    kept = {**known, source: known.get(source, ())[:1]}
    _write(file, kept)
    return Rotation(newest, tuple(old), len(kept[source]))


def secrets_file(given: Path | None) -> Path:
    """The file of secrets: `given`, else that of the environment."""
    place = given or os.environ.get(FILE_VARIABLE)
    if not place:
        raise ConfigurationError(f"a rotation needs a file that the receiver reads again: set {FILE_VARIABLE}")
    return Path(place)


def _age(endpoint: WebhookEndpoint) -> tuple[float, int]:
    created = endpoint.created_at.timestamp() if endpoint.created_at else 0.0
    return created, int(endpoint.id) if str(endpoint.id).isdecimal() else 0


def _read(file: Path) -> dict[str, tuple[SecretStr, ...]]:
    if not file.exists():
        return {}
    known = Secrets({}, file=file)
    return {source: known.of(source) for source in known.sources}


def _write(file: Path, by_source: Mapping[str, Sequence[SecretStr]]) -> None:
    plain = {source: [each.get_secret_value() for each in known] for source, known in by_source.items() if known}
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    # Readable by nobody else from its first byte on, and in place of the old one in a single step.
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(json.dumps(plain, indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()

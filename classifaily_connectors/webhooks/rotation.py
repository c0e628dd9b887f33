"""A new secret for an endpoint, without a moment in which a good delivery is refused.

The law of this file: the receiver knows a secret before the API signs with it, and still knows it after the API has
ceased to. So: the new secret into the file, then a second endpoint that signs with it; later the old endpoint goes,
then its secret. In between every delivery comes twice, which the inbox counts as a repeat. Who could read the file
still can, and the endpoint hears of what it heard of.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from classifaily_connectors.errors import ClassifailyError, ConfigurationError
from classifaily_connectors.secret_text import read_file
from classifaily_connectors.store.source import checked_source
from classifaily_connectors.webhooks.pinging import ping
from classifaily_connectors.webhooks.secret_forms import FILE_VARIABLE, is_settings_file
from classifaily_connectors.webhooks.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.models import WebhookEndpoint

_BYTES = 32
_BEFORE_AND_AFTER = 2
_ENDED_WELL = range(200, 300)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was done: the endpoint that signs with the newest secret, those that were deleted, and how many secrets
    the file now holds for the source."""

    endpoint: WebhookEndpoint
    deleted: tuple[WebhookEndpoint, ...]
    secrets: int


def begin(
    client: ClassifailyClient, url: str, file: Path, *, source: str, events: Sequence[str] | None = None
) -> Rotation:
    """Put a new secret first in `file`, then register `url` once more, signing with it, for `events` (default: those
    that the present endpoints of this address have; all where there is none).

    Raises ConfigurationError when the file cannot be read or written so that everybody who can read it still can, and
    what listing and registering raises: then the file is as before, unless nobody knows whether the endpoint was made
    (OutcomeUnknownError).
    """
    source = checked_source(source)
    if events is None:
        events = _events(client, url)
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


def finish(client: ClassifailyClient, url: str, file: Path, *, source: str, ping_first: bool = True) -> Rotation:
    """Delete all endpoints of `url` but the newest, then all secrets of the source in `file` but the first; before,
    a ping at `url` shows that the receiver knows that secret (`ping_first`).

    Raises ConfigurationError when there are not two endpoints with this address, the file holds no secret of the
    source, or the receiver does not take the new one; MethodNotAllowedError when the API cannot list or delete
    endpoints: then the dashboard can.
    """
    source = checked_source(source)
    ours = sorted((each for each in client.webhooks.list() if each.url == url), key=_age)
    if len(ours) < _BEFORE_AND_AFTER:
        raise ConfigurationError(f"{len(ours)} endpoints are registered for {url}: there is no rotation to finish")
    known = _read(file)
    if not known.get(source):
        raise ConfigurationError(f"{file} holds no secret of source {source!r}: is it the receiver's file?")
    if ping_first:
        _check_receiver(url, known[source][0])
    *old, newest = ours
    for each in old:
        client.webhooks.delete(each.id)
    kept = {**known, source: known[source][:1]}
    _write(file, kept)
    return Rotation(newest, tuple(old), len(kept[source]))


def secrets_file(given: Path | None) -> Path:
    """The file of secrets: `given`, else that of the environment."""
    place = given or os.environ.get(FILE_VARIABLE)
    if not place:
        raise ConfigurationError(f"a rotation needs a file that the receiver reads again: set {FILE_VARIABLE}")
    return Path(place)


def _events(client: ClassifailyClient, url: str) -> list[str]:
    present = [event for each in client.webhooks.list() if each.url == url for event in each.events]
    return ["*"] if "*" in present or not present else list(dict.fromkeys(present))


def _check_receiver(url: str, secret: SecretStr) -> None:
    pong = ping(url, secret)
    if pong.status not in _ENDED_WELL:
        said = f"it answers {pong.status}" if pong.status else f"it does not answer ({pong.reason})"
        raise ConfigurationError(
            f"{url} does not take a delivery that is signed with the new secret ({said}), so the old one stays: has "
            "the receiver read the file? Where it cannot be reached from here, leave out the ping (--no-ping)"
        )


def _age(endpoint: WebhookEndpoint) -> tuple[float, int]:
    created = endpoint.created_at.timestamp() if endpoint.created_at else 0.0
    return created, int(endpoint.id) if str(endpoint.id).isdecimal() else 0


def _read(file: Path) -> dict[str, tuple[SecretStr, ...]]:
    if not file.exists():
        return {}
    if is_settings_file(read_file(file, "the webhook secrets")):
        raise ConfigurationError(f"{file} holds lines of NAME=value, which others read too: give one of secrets alone")
    known = Secrets({}, file=file)
    return {source: known.of(source) for source in known.sources}


def _write(file: Path, by_source: Mapping[str, Sequence[SecretStr]]) -> None:
    plain = {source: [each.get_secret_value() for each in known] for source, known in by_source.items() if known}
    file = Path(os.path.realpath(file))  # a link stays one
    problem = ""
    try:
        _replace(file, json.dumps(plain, indent=2) + "\n")
    except OSError as error:
        problem = error.strerror or type(error).__name__
    if problem:
        raise ConfigurationError(
            f"{file} cannot be replaced so that everybody who reads it still can ({problem}): run this as its owner"
        )


def _replace(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    # Readable by nobody else from its first byte on, and in place of the old one in a single step.
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as stream:
            with contextlib.suppress(FileNotFoundError):
                _take_access(file, stream.fileno(), beside)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def _take_access(file: Path, handle: int, beside: Path) -> None:
    """Owner, group, mode, and what else says who may read it (ACLs, labels)."""
    before, now = file.stat(), os.fstat(handle)
    if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        os.fchown(handle, before.st_uid, before.st_gid)
    shutil.copystat(file, beside)
    os.fchmod(handle, before.st_mode & 0o7777)

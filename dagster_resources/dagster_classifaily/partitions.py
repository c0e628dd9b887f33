"""Where a partition's table is: a path that says `{partition_key}`, or `{date}/{region}` for each dimension.

The law of this file: a partition key is data. It never leads out of the folder that the path names, two keys never
share one file, and a partition never replaces another's table.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, cast

from dagster import DagsterError, MultiPartitionKey, MultiPartitionsDefinition

from classifaily_connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster import AssetExecutionContext, PartitionsDefinition

PARTITION = "{partition_key}"
_LONGEST = 200
"""Bytes of one name in a path; file systems allow 255, and there is an ending."""
_ESCAPES = re.compile(r"%(?=(?:25)*2[EF])")
_LONE_SLASH = re.compile(r"(?<![^/])/|/\Z")


def partitions_of(context: AssetExecutionContext | None) -> PartitionsDefinition[Any] | None:
    """The partitions that the asset of this step has now: post-processing may have given it others."""
    if context is None:
        return None
    try:
        found: PartitionsDefinition[Any] | None = context.assets_def.partitions_def
    except DagsterError:  # called by hand, in a test
        return None
    return found


def check_partitioned(path: Any, partitions: PartitionsDefinition[Any] | None, name: str = "output") -> None:
    """Raise ConfigurationError when all partitions would have one path."""
    if partitions is None or path is None:
        return
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(f"with partitions, {name} must be a path or a URL: it is different for each")
    text, wanted = os.fspath(cast("str", path)), _placeholders(partitions)
    if PARTITION in text or (wanted and all(each in text for each in wanted)):
        return
    told = f"{PARTITION}, or {' and '.join(wanted)}" if wanted else PARTITION
    raise ConfigurationError(f"{name} must say {told}, or every partition would replace the one before")


def partition_path(path: str | os.PathLike[str], context: AssetExecutionContext | None, name: str = "output") -> str:
    """The path of this run's partition; as it is where the asset has none.

    Keys are escaped as Dagster's file storage does: `..` becomes `%2E%2E`, a slash that parts no names `%2F`; the
    slashes between names are folders.

    Raises ConfigurationError for a path that other partitions share, and for a key that no path can hold.
    """
    from classifaily_connectors.places import scheme_of

    text, partitions = os.fspath(path), partitions_of(context)
    keyed = context is not None and context.has_partition_key
    if context is None or not keyed or (partitions is None and not _by_hand(context)):
        if PARTITION in text:
            raise ConfigurationError(f"{name} says {PARTITION}, and the asset has no partition in this run")
        return text
    check_partitioned(text, partitions, name)
    made = _filled(text, context.partition_key)
    if scheme_of(made) != scheme_of(text):
        raise ConfigurationError(f"{name}: this partition key makes a URL of a path: put a folder before it")
    if any(len(os.fsencode(each)) > _LONGEST for each in made.split("/")) or "\0" in made:
        raise ConfigurationError(f"{name}: this partition key is no file's name: it is too long, or holds a NUL")
    if isinstance(partitions, MultiPartitionsDefinition) and PARTITION not in text:
        _check_alone(text, made, context, partitions)
    return made


def is_keyed(path: str, context: AssetExecutionContext | None) -> bool:
    """Whether the path names the partition, as a whole or by a dimension."""
    partitions = partitions_of(context)
    return PARTITION in path or (partitions is not None and any(each in path for each in _placeholders(partitions)))


def _by_hand(context: AssetExecutionContext) -> bool:
    try:
        context.assets_def  # noqa: B018  # raises
    except DagsterError:
        return True
    return False


def _placeholders(partitions: PartitionsDefinition[Any]) -> list[str]:
    if not isinstance(partitions, MultiPartitionsDefinition):
        return []
    return [f"{{{each.name}}}" for each in partitions.partitions_defs]


def _filled(path: str, key: str) -> str:
    values: Mapping[str, str] = key.keys_by_dimension if isinstance(key, MultiPartitionKey) else {}
    told = {f"{{{dimension}}}": _escaped(value).replace("/", "%2F") for dimension, value in values.items()}
    told[PARTITION] = _escaped(key)
    # In one go: a key may hold what looks like another's placeholder.
    return re.sub("|".join(map(re.escape, told)), lambda match: told[match[0]], path)


def _escaped(key: str) -> str:
    plain = _LONE_SLASH.sub("%2F", _ESCAPES.sub("%25", key))
    return "/".join(each.replace(".", "%2E") if each in (".", "..") else each for each in plain.split("/"))


def _check_alone(path: str, made: str, context: AssetExecutionContext, partitions: MultiPartitionsDefinition) -> None:
    """`{day}{hour}`: 1 and 11, 11 and 1."""
    between = re.findall(r"\}([^{}]*)\{", path)
    if all("/" in each for each in between):
        return
    keys = partitions.get_partition_keys(dynamic_partitions_store=context.instance)
    if any(_filled(path, each) == made and each != context.partition_key for each in keys):
        raise ConfigurationError("output: another partition has this path too: put a / between the dimensions")

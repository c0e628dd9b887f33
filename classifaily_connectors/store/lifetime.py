"""Whether a ledger outlives the run that pays: a container's own disk does not, nor does a temporary folder.

The law of this file: it warns, and decides nothing; what cannot be told is taken to last.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from classifaily_connectors.store.database import file_system

_SIGNS = (
    "KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4", "K_SERVICE",
    "CLOUD_RUN_JOB", "AWS_LAMBDA_FUNCTION_NAME", "FARGATE_TASK", "CONTAINER_APP_NAME", "container",
)  # fmt: skip
_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_IN_MEMORY = ("tmpfs", "ramfs")
_OF_A_CONTAINER = ("overlay", "overlayfs", "fuse.fuse-overlayfs", "fuse-overlayfs", "aufs")
_OF_A_POD = "kubernetes.io~empty-dir"
SQLITE = "sqlite:///"


def ends_with_run(url: str, *, environ: Mapping[str, str] | None = None, mountinfo: Path | None = None) -> str | None:
    """Why what a store keeps may be gone before the next run, in half a sentence; None when nothing speaks for it.

    Of a database server nothing is said. `mountinfo` is the kernel's list of mounts.
    """
    environ = os.environ if environ is None else environ
    if not url.startswith("sqlite"):
        return None
    path = url.removeprefix(SQLITE).partition("?")[0]
    if not url.startswith(SQLITE) or not path or path == ":memory:":
        return "it is in memory and ends with this process"
    folder = Path(os.path.realpath(path)).parent
    kind = file_system(folder)
    if kind in _IN_MEMORY:
        return f"{folder} is in memory ({kind}) and ends with this machine"
    if any(folder.is_relative_to(os.path.realpath(each)) for each in {tempfile.gettempdir(), "/tmp", "/var/tmp"}):  # noqa: S108
        return f"{folder} is a folder for temporary files"
    if _OF_A_POD in _mounted_from(folder, mountinfo or Path("/proc/self/mountinfo")):
        return f"{folder} is a volume that ends with its pod"
    contained = any(environ.get(sign) for sign in _SIGNS) or any(mark.exists() for mark in _MARKS)
    if contained and (kind in _OF_A_CONTAINER or not kind):
        return f"{folder} is this container's own disk, and ends with it"
    return None


def _mounted_from(folder: Path, mountinfo: Path) -> str:
    """What the mount that holds the folder shows, as its host calls it."""
    best, root = "", ""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        _id, _parent, _device, shown, place, *_ = line.split(" ")
        if folder.is_relative_to(place) and len(place) >= len(best):
            best, root = place, shown
    return root

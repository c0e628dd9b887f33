"""A ledger that ends with the run is named, before it is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifaily_connectors.store import lifetime
from classifaily_connectors.store.lifetime import ends_with_run

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def mounted(tmp_path: Path, root: str) -> Path:
    info = tmp_path / "mountinfo"
    info.write_text(f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 8:1 {root} /data rw - ext4 /dev/sda1 rw\n")
    return info


@pytest.mark.parametrize(
    ("url", "kind", "environ", "reason"),
    [
        ("postgresql+psycopg://u:p@db/labels", "overlay", POD, None),
        ("sqlite://", "ext4", {}, "in memory"),
        ("sqlite:///:memory:", "ext4", {}, "in memory"),
        ("sqlite:////srv/ledger.db", "tmpfs", {}, "in memory (tmpfs)"),
        ("sqlite:////tmp/ledger.db", "ext4", {}, "temporary files"),
        ("sqlite:////srv/ledger.db", "overlay", POD, "this container's own disk"),
        ("sqlite:////srv/ledger.db", "overlay", {"ECS_CONTAINER_METADATA_URI_V4": "http://x"}, "container's own"),
        ("sqlite:////srv/ledger.db", "ext4", POD, None),  # a volume
        ("sqlite:////srv/ledger.db", "ext4", {}, None),
    ],
)
def test_what_does_not_last_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, kind: str, environ: dict[str, str], reason: str | None
) -> None:
    monkeypatch.setattr(lifetime, "file_system", lambda folder: kind)
    monkeypatch.setattr(lifetime, "_MARKS", ())
    found = ends_with_run(url, environ=environ, mountinfo=mounted(tmp_path, "/"))
    assert (found is None) == (reason is None)
    assert reason is None or reason in (found or "")


def test_a_volume_that_ends_with_its_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lifetime, "file_system", lambda folder: "ext4")
    info = mounted(tmp_path, "/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/data")
    assert "ends with its pod" in (ends_with_run("sqlite:////data/ledger.db", environ=POD, mountinfo=info) or "")
    assert ends_with_run("sqlite:////srv/ledger.db", environ=POD, mountinfo=info) is None

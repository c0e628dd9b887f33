"""Laws of the tree that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "classifaily_connectors",
    "airflow_provider/airflow_provider_classifaily",
    "prefect_tasks/prefect_classifaily",
    "dagster_resources/dagster_classifaily",
)
LONGEST = 400


def tracked() -> list[Path]:
    """Every file that is, or is about to be, in version control."""
    run = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    paths = [ROOT / name for name in found.split("\0") if name]
    return [path for path in paths if path.is_file()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]
SOURCES = [path for path in PYTHON if name(path).startswith(PACKAGES)]
TEXTS = [path for path in FILES if b"\0" not in path.read_bytes()]


def test_the_laws_see_the_tree() -> None:
    assert Path(__file__) in PYTHON
    assert {package for package in PACKAGES if any(name(path).startswith(package) for path in SOURCES)} == set(PACKAGES)


def test_no_source_file_is_too_long() -> None:
    """A file that grows beyond this has missed a concept."""
    lines = {name(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}


def test_every_module_states_its_law() -> None:
    """Every module says what it is for, in a sentence of its own."""
    told = {name(path): ast.get_docstring(ast.parse(path.read_text())) or "" for path in SOURCES}
    unsaid = [path for path, text in told.items() if len(text) < 20 and not path.endswith("_version.py")]
    assert unsaid == []
    spoken = [text for text in told.values() if text]
    assert len(spoken) == len(set(spoken))


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return {each.partition(".")[0] for each in found}


def test_only_the_transport_imports_httpx() -> None:
    """The next HTTP library is one file away, and no exception that carries the key escapes."""
    users = [name(path) for path in SOURCES if imported(path) & {"httpx", "httpcore", "requests", "aiohttp"}]
    assert users == ["classifaily_connectors/transport.py"]


def test_the_core_knows_no_orchestrator() -> None:
    homes = {"airflow", "prefect", "dagster", *(Path(package).name for package in PACKAGES[1:])}
    core = [path for path in SOURCES if name(path).startswith(PACKAGES[0])]
    assert [name(path) for path in core if imported(path) & homes] == []


def test_the_base_package_needs_two_libraries() -> None:
    """What the first import of a client loads is the standard library, httpx and pydantic."""
    base = [path for path in SOURCES if path.parent in (ROOT / PACKAGES[0], ROOT / PACKAGES[0] / "operations")]
    needed = set[str]()
    for path in base:
        tree = ast.parse(path.read_text())
        at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        needed |= {alias.name for node in at_import if isinstance(node, ast.Import) for alias in node.names}
        needed |= {node.module or "" for node in at_import if isinstance(node, ast.ImportFrom) and not node.level}
    foreign = {each.partition(".")[0] for each in needed} - sys.stdlib_module_names
    assert foreign == {"classifaily_connectors", "httpx", "pydantic"}


# Put together here, so that this file does not break the law it holds.
MACHINE = re.compile("|".join(rf"(?<![\w.]){root}" for root in ("/wo" + "rk/", "/ro" + "ot/")))
REGISTRIES = re.compile("|".join(("py" + "pi[.]org", "python" + "hosted", "npm" + "js[.]", "/simple" + "/")))


@pytest.mark.parametrize("forbidden", [MACHINE, REGISTRIES], ids=["a path of this machine", "a package registry"])
def test_nothing_points_outside(forbidden: re.Pattern[str]) -> None:
    """A checkout works on any machine, and behind any mirror."""
    found = {name(path): forbidden.findall(path.read_text(errors="replace")) for path in TEXTS}
    assert {path: hits for path, hits in found.items() if hits} == {}


PINNED = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.stem)
def test_requirements_are_pinned_and_hashed(path: Path) -> None:
    """Whatever mirror they come from, they are these files; and no address of a mirror is written down."""
    lines = [line for line in path.read_text().replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert lines
    loose = [line for line in lines if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert loose == []
    assert "://" not in path.read_text()


def test_every_environment_is_pinned() -> None:
    asked = {path.stem for path in (ROOT / "requirements").glob("*.in")} - {"test"}
    assert {path.stem for path in PINNED} == asked

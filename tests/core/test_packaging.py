"""The wheel that users install, away from the sources: what is in it, and what works before any extra is installed.

Built as a release is built (the archive of the sources first, the wheel from that), so a file the archive forgets
is missed here and not by a user.
"""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Canned

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venvs" / "tools" / "bin"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = [Path(folder) for folder in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"


def run(*words: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CLASSIFAILY"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=outside, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(TOOLS / "python", "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    sources = next(path for path in folder.iterdir() if path.is_dir())
    run(TOOLS / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=sources)
    return next(folder.glob("*.whl"))


@dataclass
class Bare:
    """An environment that holds the wheel, httpx and pydantic."""

    bin: Path
    folder: Path

    def __call__(self, code: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(self.bin / "python", "-W", "error", "-c", code, *words, cwd=self.folder, check=check)

    def told(self, code: str, *words: str) -> Any:
        return json.loads(self(f"import json\n{code}\nprint(json.dumps(told))", *words).stdout)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    run(TOOLS / "uv", "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pins = ROOT / "requirements" / "core.txt"
    run(TOOLS / "uv", "pip", "install", "--quiet", "--python", python, "--constraints", pins, wheel, cwd=folder)
    return Bare(python.parent, folder)


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [each for each in archive.namelist() if ".dist-info/" not in each]
        extra = [each.partition("/")[2] for each in archive.namelist() if ".dist-info/" in each]
    sources = {
        str(path.relative_to(ROOT / folder.parent))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(names) == sources
    assert {each.partition("/")[0] for each in names} == {folder.name for folder in FOLDERS}
    assert sorted(each for each in names if each.endswith("py.typed")) == sorted(f"{f.name}/py.typed" for f in FOLDERS)
    assert "licenses/LICENSE" in extra
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_says_what_the_project_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {each.rpartition("/")[2]: archive.read(each).decode() for each in archive.namelist() if "info/" in each}
    project = PROJECT["project"]
    points = configparser.ConfigParser(delimiters="=")
    points.optionxform = str  # type: ignore[assignment,method-assign]
    points.read_string(texts["entry_points.txt"])
    wanted = {"console_scripts": project["scripts"], **project["entry-points"]}
    assert {section: dict(points[section]) for section in points.sections()} == wanted
    metadata = HeaderParser().parsestr(texts["METADATA"])
    assert metadata["Name"] == "classifaily-connectors"
    assert metadata["Requires-Python"] == project["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    always = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert sorted(each.partition("<")[0] for each in always) == ["httpx", "pydantic"]


def test_the_version_is_told_once(wheel: Path, bare: Bare) -> None:
    code = "import classifaily_connectors as cc; from importlib.metadata import version\n"
    told = bare.told(f"{code}told = [cc.__version__, version('classifaily-connectors'), cc.__file__]")
    assert told[0] == told[1] == wheel.name.split("-")[1]
    assert Path(told[2]).is_relative_to(bare.folder)


CORE = ROOT / FOLDERS[0]
OPERATIONS = [f"operations.{path.stem}" for path in (CORE / "operations").glob("*.py") if path.stem != "__init__"]
ROOMS = "bulk bulk.budget bulk.plan bulk.run operations sandbox store webhooks"
SINGLE = "async_client client errors media models retry routing settings taxonomy telemetry transport"
NO_EXTRA = [*SINGLE.split(), *ROOMS.split(), *OPERATIONS]
PUBLIC = sorted({path.stem for path in CORE.glob("*.py")} | {path.parent.name for path in CORE.glob("*/__init__.py")})
# Each as if it were the first import of the package, so that no module works only after another.
TRY_ALL = """
import importlib, sys
told = {}
for name in sys.argv[1:]:
    for loaded in [each for each in sys.modules if each.partition(".")[0] == name.partition(".")[0]]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
        told[name] = None
    except ImportError as error:
        told[name] = str(error)
"""


def test_the_base_install_imports_without_extras(bare: Bare) -> None:
    names = [f"classifaily_connectors.{each}" for each in NO_EXTRA]
    assert bare.told(TRY_ALL, *names) == dict.fromkeys(names)


def test_every_module_works_or_names_its_extra(bare: Bare) -> None:
    """Nobody should have to guess which extra brings what is missing."""
    names = [f"classifaily_connectors.{each}" for each in PUBLIC if each != "__init__"]
    told = bare.told(TRY_ALL, *names)
    assert {name: trouble for name, trouble in told.items() if not works_or_names_its_extra(trouble)} == {}


def works_or_names_its_extra(trouble: str | None) -> bool:
    return trouble is None or "pip install 'classifaily-connectors[" in trouble


def test_every_public_name_works_or_names_its_extra(bare: Bare) -> None:
    told = bare.told("""
import classifaily_connectors as cc
told = {}
for name in dir(cc):
    try:
        told[name] = None if getattr(cc, name) else "empty"
    except ImportError as error:
        told[name] = str(error)
""")
    assert {name: trouble for name, trouble in told.items() if not works_or_names_its_extra(trouble)} == {}
    assert told["ClassifailyClient"] is None
    assert told["Ledger"] is not None


def test_the_base_install_classifies(bare: Bare, canned: Canned) -> None:
    """One input, and many rows remembered by this run alone, need no extra."""
    canned.say(200, {"id": "1", "status": "completed", "result": {"label": "billing", "confidence": 0.9}})
    code = """
import sys, classifaily_connectors as cc
with cc.ClassifailyClient(sys.argv[1], base_url=sys.argv[2]) as client:
    told = [client.classify("Refund!", categories=["billing", "other"]).label]
    rows = client.classify_many(["Refund!", "Refund!"], categories=["billing", "other"], mode="top_n", ledger=False)
    told += [(row.label, row.source) for row in rows]
"""
    assert bare.told(code, KEY, canned.url) == ["billing", ["billing", "api"], ["billing", "duplicate"]]
    assert canned.asked[0].json["input"] == "Refund!"


NEEDS = {
    "from classifaily_connectors.sandbox import Sandbox": "sandbox",
    "from classifaily_connectors.sandbox import create_app": "sandbox",
    "import classifaily_connectors.cli": "cli",
}


@pytest.mark.parametrize("code", NEEDS)
def test_a_missing_extra_is_named(code: str, bare: Bare) -> None:
    done = bare(code, check=False)
    assert done.returncode != 0
    assert f"ImportError: the {'command line' if NEEDS[code] == 'cli' else NEEDS[code]} needs" in done.stderr
    assert f"pip install 'classifaily-connectors[{NEEDS[code]}]'" in done.stderr


def test_the_command_names_its_extra(bare: Bare) -> None:
    done = run(bare.bin / "classifaily", "--help", cwd=bare.folder, check=False)
    assert done.returncode != 0
    assert done.stderr == "error: the command line needs typer: pip install 'classifaily-connectors[cli]'\n"


def test_switches_and_faults_need_no_extra(bare: Bare) -> None:
    told = bare.told(
        "from classifaily_connectors.sandbox import Fault, Switches\n"
        "told = [Switches().list_envelope, Fault(kind='reset').kind]"
    )
    assert told == ["named", "reset"]


HOMES = {"airflow_provider_classifaily": "airflow", "prefect_classifaily": "prefect", "dagster_classifaily": "dagster"}


@pytest.mark.parametrize("home", HOMES)
def test_a_home_without_its_platform_names_the_pip_command(home: str, bare: Bare) -> None:
    assert f"pip install 'classifaily-connectors[{HOMES[home]}]'" in bare.told(TRY_ALL, home)[home]


def test_importing_the_root_loads_itself_alone(bare: Bare) -> None:
    """No time is measured: what is loaded is what it costs."""
    code = """
import sys
before = set(sys.modules)
import classifaily_connectors
told = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names)
"""
    assert bare.told(code) == [
        "classifaily_connectors",
        "classifaily_connectors._lazy",
        "classifaily_connectors._version",
    ]

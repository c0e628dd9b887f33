"""A store is given as people write it: read as it is meant, or refused with the right form; no password is shown."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import sqlalchemy as sa

from classifaily_connectors import ConfigurationError, StoreError, StoreUnavailableError
from classifaily_connectors.retry import mendable
from classifaily_connectors.store import Inbox, Ledger
from classifaily_connectors.store.address import default_store, shown, store_url

PASSWORD = "hush-hush"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgres://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("postgresql://u@h:5433/db?sslmode=require", "postgresql+psycopg://u@h:5433/db?sslmode=require"),
        ("postgresql+psycopg2://u:p%40w@h/db", "postgresql+psycopg://u:p%40w@h/db"),
        ("postgresql+asyncpg://h/db", "postgresql+psycopg://h/db"),
        (" postgres://u:p@h/db\n", "postgresql+psycopg://u:p@h/db"),
        ("postgres://u:p/w@h/db", "postgresql+psycopg://u:p/w@h/db"),
        ("postgres://[::1]:5432/db", "postgresql+psycopg://[::1]:5432/db"),
        ("postgresql:///db?host=/var/run/postgresql", "postgresql+psycopg:///db?host=/var/run/postgresql"),
        ("postgresql://%2Fvar%2Frun/db", "postgresql+psycopg:///db?host=/var/run"),
        (
            "postgresql://u:p@one:1,two:2/db?target_session_attrs=read-write",
            "postgresql+psycopg://u:p@/db?host=one:1&host=two:2&target_session_attrs=read-write",
        ),
        ("sqlite+pysqlite:////var/ledger.db", "sqlite:////var/ledger.db"),
        (Path("/var/ledger"), "sqlite:////var/ledger"),
        ("/var/ledger.db", "sqlite:////var/ledger.db"),
        ("ledger.db", f"sqlite:///{Path.cwd()}/ledger.db"),
        ("folder/ledger", f"sqlite:///{Path.cwd()}/folder/ledger"),
    ],
)
def test_a_store_is_read_as_it_is_meant(given: str | Path, meant: str) -> None:
    assert store_url(given) == meant
    sa.make_url(meant)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (f"postgres://u:{PASSWORD}@ss@h/db", "%40"),
        (f"postgres://u:{PASSWORD}@h:port/db", "port"),
        (f"host=h user=u password={PASSWORD} dbname=d", "must start with"),
        (f"mysql://u:{PASSWORD}@h/db", "must start with"),
        ("ledger", "must start with"),
        ("sqlite://ledger.db", "three slashes"),
        ("sqlite:ledger.db", "must start with"),
        ("sqlite:///ledger.db?mode=ro", "'mode'"),
        ("sqlite:///file:ledger.db", "file: URL"),
        (Path("what?.db"), "question mark"),
        (7, "int"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_right_form(given: str, why: str) -> None:
    for door in (Ledger, Inbox):
        with pytest.raises(ConfigurationError, match=why) as caught:
            door(given)
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "form", ["u:{}@127.0.0.1:1/db", "127.0.0.1:1/db?user=u&password={}", "u:{}@/db?host=127.0.0.1:1"]
)
def test_no_error_shows_a_password_and_a_server_out_of_reach_may_come_back(form: str) -> None:
    url = f"postgres://{form.format(PASSWORD)}"
    assert PASSWORD not in shown(store_url(url))
    with pytest.raises(StoreUnavailableError) as caught:
        Ledger(url)
    assert PASSWORD not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    assert caught.value.passing
    assert mendable(caught.value)


def test_the_default_needs_a_home_and_says_which_setting_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("CLASSIFAILY_STORE_URL", raising=False)

    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConfigurationError, match="CLASSIFAILY_STORE_URL"):
        default_store()
    with pytest.raises(ConfigurationError, match="whole path"):
        store_url(Path("~/ledger.db"))
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", "postgres://h/db")
    assert default_store() == "postgresql+psycopg://h/db"


def test_a_store_of_an_earlier_version_stays_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else an upgrade would forget what was paid."""
    monkeypatch.delenv("CLASSIFAILY_STORE_URL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    own = default_store()
    assert own == f"sqlite:///{tmp_path}/state/classifaily/ledger.db"
    assert default_store(former_home=tmp_path) == own
    (tmp_path / "classifaily.db").touch()
    assert default_store(former_home=tmp_path) == f"sqlite:///{tmp_path}/classifaily.db"
    assert default_store(tmp_path / "given.db", former_home=tmp_path) == f"sqlite:///{tmp_path}/given.db"


def test_a_ledger_may_be_pickled_and_used_in_a_block(url: str) -> None:
    with Ledger(url, namespace="ours", lease=7) as ledger:
        ledger.claim(ledger.start_run(), [b"key"])
        with pickle.loads(pickle.dumps(ledger)) as copy:
            assert (copy.namespace, copy.lease, set(copy.lookup([b"key"]))) == ("ours", 7, {b"key"})
    with Inbox(url) as inbox, pickle.loads(pickle.dumps(inbox)) as copy:
        assert copy.end() == inbox.end()


def test_an_error_of_a_store_travels() -> None:
    error = StoreError("full", passing=True, unwritten=3, rescue="/tmp/there")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.passing, copy.unwritten, copy.rescue) == ("full", True, 3, "/tmp/there")

"""Stores by their URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bargein_server.stores.sqlite import SqliteStore
from bargein_server.stores.urls import BadStore, default_url, store_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///kept.db", "kept.db"),
        ("sqlite:////var/lib/kept.db", "/var/lib/kept.db"),
        ("sqlite:///a%20b.db?synchronous=full", "a b.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    """Three slashes are relative, four absolute."""
    store = store_of(url)
    assert isinstance(store, SqliteStore)
    assert str(store) == path
    assert store._synchronous == ("full" if "full" in url else "normal")


def test_none_is_no_store() -> None:
    """Conversations are in memory only."""
    assert store_of("none") is None


@pytest.mark.parametrize(
    "url",
    ["", "kept.db", "sqlite://kept.db", "sqlite:///", "sqlite:///a.db?sync=1", "sqlite:///a.db?synchronous=off",
     "redis://:secret@host"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    """The message has the expected form, and no password."""
    with pytest.raises(BadStore) as refused:
        store_of(url)
    assert "expected" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_default_is_a_file_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's folder for state; for an agent of the user's own, of its folder too."""
    state = {"XDG_STATE_HOME": str(tmp_path)}
    assert default_url("demo", state) == f"sqlite:///{tmp_path}/bargein/demo.db"
    monkeypatch.chdir(tmp_path)
    here = default_url("hello:agent", state)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert here.startswith(f"sqlite:///{tmp_path}/bargein/hello.agent-")
    assert default_url("hello:agent", state) != here
    assert default_url("demo", {}) == f"sqlite:///{Path.home()}/.local/state/bargein/demo.db"

"""Stores by their URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bargein_server.stores.redis_address import RedisAddress, address_of
from bargein_server.stores.redis_store import RedisStore
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
     "redis://:secret@host/one", "redis://:secret@host:port", "redis://:secret@one,two", "redis://:secret@",
     "redis://:secret@host/0?ca=/ca.pem", "rediss://:secret@host?verify=no", "redis://:secret@host?prefix={a}",
     "redis+sentinel://:secret@host", "redis:///0", "redis+unix:///secret"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    """The message has the expected form, and no password."""
    with pytest.raises(BadStore) as refused:
        store_of(url)
    assert "expected" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", RedisAddress((("host", 6379),))),
        ("redis://host:7000/2?prefix=shop:", RedisAddress((("host", 7000),), db=2, prefix="shop:")),
        ("redis://ann:a%40b@[::1]", RedisAddress((("::1", 6379),), "ann", "a@b")),
        ("rediss://:pass@host", RedisAddress((("host", 6379),), password="pass", tls=())),
        (
            "rediss://host/1?ca=/ca.pem&verify=chain",
            RedisAddress((("host", 6379),), db=1, tls=(("ca", "/ca.pem"), ("verify", "chain"))),
        ),
        (
            "redis+sentinel://one,two:7000/main/3",
            RedisAddress((("one", 26379), ("two", 7000)), db=3, service="main"),
        ),
    ],
)
def test_a_url_names_a_redis_server(url: str, address: RedisAddress) -> None:
    """With its user, its database, TLS, or sentinels."""
    assert address_of(url) == address
    store = store_of(url, keep_s=60.0)
    assert isinstance(store, RedisStore)
    assert not {"pass", "a@b"} & set(str(store).replace(":", " ").split())


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

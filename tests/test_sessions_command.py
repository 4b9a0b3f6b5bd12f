"""The command `bargein-server sessions`, beside a server that uses the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bargein_server import BearerTokens
from bargein_server.cli import main
from live_server import ask, echo, serving


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["sessions", *arguments])
    return int(ended.value.code or 0)


async def _fill(url: str) -> tuple[str, str]:
    users = BearerTokens({"a": "ann", "b": "bob"})
    ids = []
    async with serving(echo, store=url, authenticator=users) as server:
        for auth, text in (("a", "hello\x1b[31m red"), ("b", "what is new?")):
            async with server.connect() as client:
                await client.send({"type": "session.open", "auth": auth})
                ids.append((await client.until("session.opened"))["session_id"])
                await client.send({"type": "session.update", "metadata": {"language": "en"}})
                await ask(client, text)
                await client.until("turn.ended")
    return ids[0], ids[1]


async def test_it_lists_shows_exports_names_and_deletes(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What a user says cannot control the terminal."""
    import asyncio

    url = f"sqlite:///{tmp_path}/kept.db"
    ann, bob = await _fill(url)
    capfdbinary.readouterr()

    async def run(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(_run, "--store", url, *arguments)
        return status, capfdbinary.readouterr().out.decode()

    status, listed = await run("list")
    assert (status, len(listed.splitlines())) == (0, 2)
    assert listed.splitlines()[0].startswith(bob)
    assert "\x1b" not in listed
    assert (await run("list", "--principal", "ann"))[1].startswith(ann)
    status, shown = await run("show", bob)
    assert shown.splitlines() == ["user: what is new?", "assistant: what is new?|[]"]
    exported = json.loads((await run("export", ann))[1])
    assert (exported["principal"], exported["metadata"]) == ("ann", {"language": "en"})
    assert [message["role"] for message in exported["messages"]] == ["user", "assistant"]
    assert exported["title"] == "hello\x1b[31m red"
    assert (await run("rename", ann, " The\n red one "))[0] == 0
    assert json.loads((await run("export", ann))[1])["title"] == "The red one"
    assert (await run("export", "--markdown", ann))[1].split("\n\n") == [
        "# The red one",
        "## You",
        "hello?[31m red",
        "## Agent",
        "hello?[31m red|[]\n",
    ]
    assert (await run("list", "--principal", "ann"))[1].rstrip().endswith("1 turns  The red one")
    assert (await run("rename", "s_nobody", "x"))[0] == 1
    assert (await run("delete", ann))[0] == 0
    assert (await run("delete", ann))[0] == 1
    assert len((await run("list"))[1].splitlines()) == 1


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and no file is made."""
    url = f"sqlite:///{tmp_path}/none.db"
    assert _run("--store", url, "list") == 1
    assert "there is no store" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()
    assert _run("--store", "mysql://x", "list") == 1
    assert "sqlite:///file.db" in capsys.readouterr().err
    assert _run("list") == 1  # the tests' environment says none
    assert "--store" in capsys.readouterr().err

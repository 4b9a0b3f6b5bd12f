"""Files at the command line: `send --attach`, `/attach`, and `attachments` in a batch."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bargein_protocol as bp
from bargein_client.cli.chat import Chat
from bargein_client.cli.files import read_file
from bargein_client.errors import BargeinError
from bargein_server import Output, Turn
from client_script import ScriptedServer, talking
from live_server import Serving, serving
from paper import Paper
from waiting import WAIT_S

PNG = b"\x89PNG" + bytes(range(256))


class Viewer:
    """Agent that names the files that it got."""

    takes_attachments = ("image/*",)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        yield ", ".join(f"{file.name} {file.media_type} {len(file.data)}" for file in turn.attachments)


async def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
    """Run the command; return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_client", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(2 * WAIT_S):
        out, err = await process.communicate(given.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    """A picture."""
    path = tmp_path / "sky.png"
    path.write_bytes(PNG)
    return path


async def test_send_attaches_files(sky: Path) -> None:
    """Several, with their names and types; refused files say why."""
    (notes := sky.with_name("notes.txt")).write_text("hello")
    async with serving(Viewer()) as server:
        url, two = f"127.0.0.1:{server.port}", ("--attach", str(sky), "--attach", str(sky))
        assert await run("send", *two, url, "What is this?") == (
            0, "sky.png image/png 260, sky.png image/png 260\n", "",
        )  # fmt: skip
        code, out, err = await run("send", "--attach", str(notes), url, "What is this?")
        assert (code, out) == (1, "")
        assert "the agent takes no such file" in err
        code, out, err = await run("send", *two * 5, url, "What is this?")
        assert (code, err) == (1, "bargein: at most 8 files go with a message\n")


async def test_lines_of_a_chat_attach_files(sky: Path) -> None:
    """The file goes with the next message alone, and `/again` sends it once more."""
    async with serving(Viewer()) as server:
        given = f"/attach {sky}\nlook\nand now?\n/undo\n/again\n/attach {sky}x\n"
        code, out, err = await run("chat", f"127.0.0.1:{server.port}", given=given)
        assert out.count("sky.png image/png 260") == 2
        assert "sky.png (image/png) goes with your next message" in out + err
        assert f"there is no file {sky}x" in out + err
        assert code == 1


async def test_an_input_of_a_lost_session_keeps_its_files(server: ScriptedServer, sky: Path) -> None:
    """It is sent again whole."""
    async with talking(server) as (session, line):
        chat = Chat(session, paper := Paper(), lambda: None)
        chat.send(f"/attach {sky}")
        chat.send("look")
        first = await line.expect(bp.InputText)
        await line.send(bp.InputRejected(input_id=first.id, code="session_lost"))
        again = await line.expect(bp.InputText)
        assert first.attachments == again.attachments
        assert again.attachments is not None
        assert again.attachments[0].data == PNG
        await chat.stop()
        assert "> look" in paper.lines


async def _answers(server: Serving, *lines: object) -> list[dict[str, object]]:
    given = "".join(json.dumps(line) + "\n" for line in lines)
    _, out, _ = await run("batch", "-", f"127.0.0.1:{server.port}", given=given)
    return [json.loads(line) for line in out.splitlines()]


async def test_inputs_of_a_batch_have_files() -> None:
    """Each its own; one with a file that is not taken fails alone."""
    png = {"media_type": "image/png", "data": base64.b64encode(PNG).decode(), "name": "sky.png"}
    async with serving(Viewer()) as server:
        seen, none, refused = await _answers(
            server,
            {"text": "a", "attachments": [png]},
            {"text": "b"},
            {"text": "c", "attachments": [{**png, "media_type": "text/html"}]},
        )
    assert (seen["status"], seen.get("text", "")) == ("completed", "sky.png image/png 260")
    assert (none["status"], none.get("text", "")) == ("completed", "")
    assert (refused["status"], refused["reason"], refused.get("retryable", False)) == (
        "failed", "unsupported_attachment", False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.PNG", "image/png"),
        ("a.svg.gz", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("a\u202egnp.exe", None),
        ("x" * 250, "application/octet-stream"),
    ],
)
def test_the_type_follows_from_the_name(tmp_path: Path, name: str, media_type: str | None) -> None:
    """A compressed file is not of the type of its content, and a long name is cut."""
    (tmp_path / name).write_bytes(b"x")
    file = read_file(str(tmp_path / name))
    assert media_type is None or file.media_type == media_type
    event = bp.InputText(id=bp.InputId("i"), text="", attachments=[file])
    assert bp.JSON.decode_client(bp.JSON.encode(event)) == event


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """One line with the cause."""
    with pytest.raises(BargeinError, match=r"cannot read .*none: No such file"):
        read_file(str(tmp_path / "none"))
    with pytest.raises(BargeinError, match=r"cannot read .*directory"):
        read_file(str(tmp_path))
    with pytest.raises(BargeinError, match="cannot read"):
        read_file("a\0b")
    (big := tmp_path / "big.png").touch()
    with big.open("wb") as file:
        file.truncate(4 * 2**20 + 1)
    with pytest.raises(BargeinError, match="too large: a file has at most 4 MiB"):
        read_file(str(big))

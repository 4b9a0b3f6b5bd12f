"""The command `bargein` on terminals and pipes: consent, JSON, standard input, URLs."""

from __future__ import annotations

import json

import pytest

import bargein_protocol as bp
from bargein_client.cli.command import main
from client_script import ScriptedServer, ended, text
from terminal_session import on_pipes, on_terminal, opening, output


def mail(seq: int) -> tuple[bp.ToolCall, bp.ToolConfirm]:
    """Return a tool call that waits for consent."""
    turn, call = bp.TurnId("t_1"), bp.CallId("c_1")
    return (
        bp.ToolCall(seq=bp.Seq(seq), turn_id=turn, call_id=call, name="send_mail"),
        bp.ToolConfirm(seq=bp.Seq(seq + 1), turn_id=turn, call_id=call, arguments={"to": "ann"}),
    )


@pytest.mark.parametrize(
    ("command", "options", "allow", "exit_code", "words"),
    [
        ("send", [], False, 3, "refused: send_mail run with"),
        ("send", ["--yes"], True, 0, "allowed by --yes: send_mail"),
        ("send", ["--no"], False, 0, "refused by --no: send_mail"),
        ("send", ["--json"], False, 3, "refused: send_mail run with"),
        ("chat", [], False, 3, "refused: send_mail run with"),
        ("chat", ["--json", "--yes"], True, 0, "allowed by --yes: send_mail"),
    ],
)
async def test_a_tool_that_needs_consent_without_a_terminal(
    server: ScriptedServer, command: str, options: list[str], allow: bool, exit_code: int, words: str
) -> None:
    """It is answered at once, the turn goes on, and the exit code names a refusal nobody asked for."""
    message = ["-"] if command == "send" else []
    async with on_pipes(command, *options, server.url, *message) as process:
        assert process.stdin is not None
        process.stdin.write(b"mail her\n")
        process.stdin.close()
        line = await opening(server)
        assert (await line.answer()).text == "mail her"
        await line.send(*mail(3))
        assert await line.expect(bp.ToolDecision) == bp.ToolDecision(call_id=bp.CallId("c_1"), allow=allow)
        await line.send(text(5, "t_1", "well"), ended(6, "t_1"))
        server.hang_up()
        out, err, code = await output(process)
    assert code == exit_code
    assert words in err
    if "--json" in options:
        assert [json.loads(event)["type"] for event in out.splitlines()] == [
            "input.accepted", "turn.started", "tool.call", "tool.confirm", "text.delta", "turn.ended",
        ]  # fmt: skip
    else:
        assert out == "well\n"


async def test_send_asks_at_a_terminal(server: ScriptedServer) -> None:
    """A line of the keyboard is the answer; a misspelled one is none."""
    async with on_terminal("send", server.url, "mail her") as terminal:
        line = await opening(server)
        await line.answer()
        await line.send(*mail(3))
        await terminal.expect('may send_mail run with {"to":"ann"}?  yes or no')
        terminal.type("jes\r")
        await terminal.expect("yes or no")
        terminal.type("yes\r")
        assert await line.expect(bp.ToolDecision) == bp.ToolDecision(call_id=bp.CallId("c_1"), allow=True)
        await line.send(text(5, "t_1", "sent"), ended(6, "t_1"))
        server.hang_up()
        await terminal.expect("sent")
        assert await terminal.wait() == 0


async def test_send_reads_a_message(server: ScriptedServer) -> None:
    """Of several lines, without the last newline; an empty one is an error."""
    async with on_pipes("send", server.url, "-") as process:
        assert process.stdin is not None
        process.stdin.write("one\n\ntwo ä\r\n".encode())
        process.stdin.close()
        line = await opening(server)
        assert (await line.answer()).text == "one\n\ntwo ä"
        await line.send(ended(3, "t_1"))
        server.hang_up()
        assert (await output(process))[2] == 0
    async with on_pipes("send", server.url, "-") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert await output(process) == ("", "bargein: standard input is empty: expected a message\n", 1)


async def test_chat_as_json(server: ScriptedServer) -> None:
    """Every event of every turn, to the last one, and nothing else on standard output."""
    async with on_pipes("chat", "--json", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\nsecond\nthird\n")
        process.stdin.close()
        line = await opening(server)
        await line.answer("t_1", 1)
        await line.send(text(3, "t_1", "one"), ended(4, "t_1"))
        asked = await line.expect(bp.InputText)
        await line.send(bp.InputRejected(input_id=asked.id, code="at_capacity"))
        await line.answer("t_3", 5)
        await line.send(text(7, "t_3", "two"), ended(8, "t_3"))
        await line.expect(bp.SessionClose)
        await line.close(1000)
        out, err, code = await output(process)
    turn = ["input.accepted", "turn.started", "text.delta", "turn.ended"]
    assert [json.loads(event)["type"] for event in out.splitlines()] == [*turn, "input.rejected", *turn]
    assert code == 1
    assert "at_capacity" in err


@pytest.mark.parametrize("command", ["chat", "send"])
async def test_a_dumb_terminal_gets_no_escapes(server: ScriptedServer, command: str) -> None:
    """The conversation is lines, and nothing moves the cursor."""
    words = ["hello"] if command == "send" else []
    async with on_terminal(command, server.url, *words, TERM="dumb") as terminal:
        line = await opening(server)
        if command == "chat":
            terminal.type("hello\r")
        await line.answer()
        thought = bp.Thought(seq=bp.Seq(3), turn_id=bp.TurnId("t_1"), text="hm")
        await line.send(thought, text(4, "t_1", "one **two**\n"), ended(5, "t_1"))
        await terminal.expect("one **two**")
        if command == "chat":
            terminal.type("\x04")
        await line.expect(bp.SessionClose)
        await line.close(1000)
        assert await terminal.wait() == 0
        assert "\x1b" not in terminal.shown


def test_a_host_without_a_scheme_is_taken_as_encrypted(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless it is this machine: no token leaves it in the clear by an omission."""
    assert main(["send", "host.invalid:1", "hello"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("bargein: cannot connect to wss://host.invalid:1/v1/session: ")
    assert lines[1] == "  without a scheme wss:// is taken; for a server without TLS give ws://host.invalid:1"


def test_a_token_without_encryption_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """It is sent, because the user wrote ws://."""
    main(["send", "ws://host.invalid:1", "hello", "--token", "secret"])
    words = "bargein: the token goes to host.invalid without encryption; wss:// encrypts it"
    assert words in capsys.readouterr().err.splitlines()
    main(["send", "localhost:9", "hello", "--token", "secret"])
    assert "encryption" not in capsys.readouterr().err

"""The command `bargein` as a process, against a scripted server."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

import bargein_protocol as bp
from bargein_client.cli.command import main
from bargein_client.cli.conversation import connected
from bargein_client.errors import ConnectError, InputRejected
from bargein_client.transports import NOT_A_URL
from client_script import ScriptedServer, accepted, ended, opened, result, scripted_server, text
from terminal_session import interrupt, on_pipes, on_terminal, opening, output, plain, surroundings
from waiting import until


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version of the distribution."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"bargein {bp.__version__}\n"


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """A short error with the URL and advice; no traceback."""
    assert main(["send", "127.0.0.1:9", "hello"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "bargein: cannot connect to ws://127.0.0.1:9/v1/session: no server is listening at this address",
        "  is the server running? start one with: bargein-server",
    ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("127.0.0.1:9/chat/", "/chat/v1/session"), ("127.0.0.1:9/chat/v1/session", "/chat/v1/session")],
)
def test_a_server_under_a_prefix(given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The address of its page, without a scheme, is enough."""
    assert main(["send", given, "hello"]) == 1
    assert f"cannot connect to ws://127.0.0.1:9{meant}: " in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://[::1", "localhost:99999", "ws://", "ftp://localhost"])
def test_what_is_no_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, without the advice to start a server."""
    assert main(["send", url, "hello"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(f": {NOT_A_URL}")


@pytest.mark.parametrize(
    "arguments",
    [["localhost:9", "\udcff"], ["localhost\udcff", "x"], ["localhost:9", "x", "--token", "\udcff"]],
)
def test_arguments_that_are_not_utf8(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Which one, and exit code 2 as for any wrong call."""
    with pytest.raises(SystemExit) as caught:
        main(["send", *arguments])
    assert caught.value.code == 2
    assert "expected UTF-8" in capsys.readouterr().err


def test_a_variable_that_is_not_utf8(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable."""
    monkeypatch.setenv("BARGEIN_TOKEN", "\udcff")
    with pytest.raises(SystemExit) as caught:
        main(["send", "localhost:9", "x"])
    assert caught.value.code == 2
    assert "the variable BARGEIN_TOKEN: expected UTF-8" in capsys.readouterr().err


async def test_send_prints_the_answer(server: ScriptedServer) -> None:
    """Safe text on standard output, status and thoughts on standard error."""
    async with on_pipes("send", server.url, "hello", "--token", "secret") as process:
        line = await server.line()
        assert (await line.open()).auth == "secret"
        assert (await line.answer()).text == "hello"
        await line.send(
            bp.Status(seq=bp.Seq(3), turn_id=bp.TurnId("t_1"), message="reading"),
            bp.Thought(seq=bp.Seq(4), turn_id=bp.TurnId("t_1"), text="hm"),
            text(5, "t_1", "one "),
            text(6, "t_1", "two\x1b]0;owned\x07"),
            ended(7, "t_1"),
        )
        server.hang_up()
        assert await output(process) == ("one two\u241b]0;owned\u2407\n", "\u2026 reading\nhm\n", 0)


async def test_the_token_may_come_from_the_environment(server: ScriptedServer) -> None:
    """Arguments are visible to every user of a machine."""
    async with on_pipes("send", server.url, "hello", BARGEIN_TOKEN="secret") as process:
        line = await server.line()
        assert (await line.open()).auth == "secret"
        await line.answer()
        await line.send(ended(3, "t_1"))
        server.hang_up()
        assert (await output(process))[2] == 0


async def test_send_of_a_failing_turn(server: ScriptedServer) -> None:
    """Exit code 1, and the reason."""
    async with on_pipes("send", server.url, "hello") as process:
        line = await opening(server)
        await line.answer()
        await line.send(ended(3, "t_1", "failed"))
        server.hang_up()
        assert await output(process) == ("", "\u27c2 failed: the agent made a mistake (agent_error)\n", 1)


async def test_send_of_a_rejected_input(server: ScriptedServer) -> None:
    """Exit code 1 and the code's own words."""
    async with on_pipes("send", server.url, "hello") as process:
        line = await opening(server)
        asked = await line.expect(bp.InputText)
        await line.send(bp.InputRejected(input_id=asked.id, code="shutting_down"))
        server.hang_up()
        assert await output(process) == ("", "bargein: shutting_down: the server is shutting down\n", 1)


@pytest.mark.parametrize("form", [[], ["--json"]])
async def test_ctrl_c_interrupts_send(server: ScriptedServer, form: list[str]) -> None:
    """The turn is interrupted by its name; exit code 130."""
    async with on_pipes("send", *form, server.url, "hello") as process:
        line = await opening(server)
        await line.answer()
        await line.send(text(3, "t_1", "one "))
        assert process.stdout is not None
        await process.stdout.readuntil(b"one ")
        interrupt(process)
        sent = await line.expect(bp.Interrupt)
        assert sent.turn_id == "t_1"
        await line.send(text(4, "t_1", "stale"), result(sent.id, "interrupted", "t_1"))
        await line.send(ended(5, "t_1", "interrupted"))
        server.hang_up()
        out, _err, code = await output(process)
        assert code == 130
        assert "stale" not in out


async def test_a_second_ctrl_c_leaves(server: ScriptedServer) -> None:
    """A server that does not answer cannot block the exit."""
    async with on_pipes("send", server.url, "hello") as process:
        line = await opening(server)
        await line.answer()
        await line.send(text(3, "t_1", "one "))
        assert process.stdout is not None
        await process.stdout.readuntil(b"one ")
        interrupt(process)
        await line.expect(bp.Interrupt)
        interrupt(process)
        await line.expect(bp.SessionClose)
        await line.close(1000)
        assert (await output(process))[2] == 130


async def test_send_as_json(server: ScriptedServer) -> None:
    """One event a line, each with its type."""
    async with on_pipes("send", "--json", server.url, "hello") as process:
        line = await opening(server)
        await line.answer()
        await line.send(text(3, "t_1", "a\x9bb"), ended(4, "t_1"))
        server.hang_up()
        out, err, code = await output(process)
        events = [json.loads(event) for event in out.splitlines()]
        assert [event["type"] for event in events] == [
            "input.accepted",
            "turn.started",
            "text.delta",
            "turn.ended",
        ]
        assert events[2]["text"] == "a\x9bb"
        assert "\x9b" not in out
        assert (err, code) == ("", 0)


async def test_send_survives_a_broken_line(server: ScriptedServer) -> None:
    """The command reports it and resumes; the answer is complete."""
    async with on_pipes("send", server.url, "hello") as process:
        line = await opening(server)
        await line.answer()
        await line.send(text(3, "t_1", "one "))
        assert process.stdout is not None
        assert await process.stdout.readexactly(4) == b"one "
        await line.cut()
        line = await server.line()
        await line.open(opened(resumed=True))
        await line.send(text(4, "t_1", "two"), ended(5, "t_1"), bp.ReplayDone(through=bp.Seq(5)))
        server.hang_up()
        out, err, code = await output(process)
        assert (out, code) == ("two\n", 0)
        assert "reconnecting" in err


async def test_chat_answers_lines_from_a_pipe(server: ScriptedServer) -> None:
    """Each line waits for the answer before; the end of the input leaves."""
    async with on_pipes("chat", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\n\nsecond")
        process.stdin.close()
        line = await opening(server)
        assert (await line.answer("t_1", 1)).text == "first"
        await line.send(text(3, "t_1", "one"), ended(4, "t_1"))
        assert (await line.answer("t_2", 5)).text == "second"
        await line.send(text(7, "t_2", "two"), ended(8, "t_2"))
        server.hang_up()
        out, _err, code = await output(process)
        assert (out, code) == ("one\n\ntwo\n", 0)


async def test_chat_tells_a_pipe_that_a_line_was_refused(server: ScriptedServer) -> None:
    """By its exit code; the other lines are answered."""
    async with on_pipes("chat", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\nsecond")
        process.stdin.close()
        line = await opening(server)
        asked = await line.expect(bp.InputText)
        await line.send(bp.InputRejected(input_id=asked.id, code="at_capacity"))
        assert (await line.answer("t_2", 1)).text == "second"
        await line.send(text(3, "t_2", "two"), ended(4, "t_2"))
        server.hang_up()
        out, err, code = await output(process)
        assert (out, code) == ("two\n", 1)
        assert "at_capacity" in err


async def test_chat_at_a_terminal(server: ScriptedServer) -> None:
    """Type, be answered, interrupt with Ctrl-C, leave with Ctrl-C."""
    async with on_terminal("chat", server.url) as terminal:
        line = await opening(server)
        await terminal.expect("connected to")
        terminal.type("hello\r")
        assert (await line.answer()).text == "hello"
        await terminal.expect("> hello")
        await line.send(text(3, "t_1", "first line\nsecond \x1b]0;owned\x07line\n"))
        await terminal.expect("second \u241b]0;owned\u2407line")
        terminal.type("\x03")
        sent = await line.expect(bp.Interrupt)
        assert sent.turn_id == "t_1"
        await line.send(text(4, "t_1", "stale\n"), result(sent.id, "interrupted", "t_1"))
        await line.send(ended(5, "t_1", "interrupted"))
        await terminal.expect("\u27c2 stopped")
        terminal.type("\x04")
        await line.expect(bp.SessionClose)
        await line.close(1000)
        assert await terminal.wait() == 0
        assert "stale" not in terminal.shown
        assert "\x1b]0;owned" not in terminal.shown


async def test_typing_interrupts(server: ScriptedServer) -> None:
    """The new input interrupts; nothing of the old turn is shown after it."""
    async with on_terminal("chat", server.url) as terminal:
        line = await opening(server)
        terminal.type("hello\r")
        await line.answer()
        await line.send(text(3, "t_1", "old\n"))
        await terminal.expect("old")
        terminal.type("wait\r")
        while not isinstance(asked := await line.receive(), bp.InputText):
            assert isinstance(asked, bp.Playback)
        assert asked.on_busy == "interrupt"
        await line.send(text(4, "t_1", "stale\n"), ended(5, "t_1", "interrupted", "superseded"))
        await line.send(accepted(6, "t_2", asked.id), text(7, "t_2", "new\n"), ended(8, "t_2"))
        await terminal.expect("> wait")
        await terminal.expect("new")
        terminal.type("\x03")  # nothing runs: the answer may have ended under the finger
        await terminal.expect("Ctrl-C again leaves")
        terminal.type("\x03")
        await line.expect(bp.SessionClose)
        await line.close(1000)
        assert await terminal.wait() == 0
        assert "stale" not in plain(terminal.shown)


async def test_chat_survives_a_restart(server: ScriptedServer) -> None:
    """Notices appear, and a fresh session replaces a lost one."""
    async with on_terminal("chat", server.url) as terminal:
        line = await opening(server)
        terminal.type("hello\r")
        await line.answer()
        await line.cut()
        await terminal.expect("reconnecting\u2026")
        line = await server.line()
        await line.open(opened(resumed=True))
        await line.send(text(3, "t_1", "still here\n"), bp.ReplayDone(through=bp.Seq(3)))
        await terminal.expect("resumed")
        await line.cut()
        line = await server.line()
        await line.open(opened(session="s_2", epoch="e_2", reason="unknown_session"))
        await terminal.expect("the server has forgotten this conversation; a new one has begun")
        await terminal.expect("failed: the server lost this conversation (session_lost)")
        terminal.type("again\r")
        asked = await line.expect(bp.InputText)
        await line.send(accepted(1, "t_1", asked.id), text(2, "t_1", "welcome back\n"), ended(3, "t_1"))
        await terminal.expect("welcome back")
        await line.close(4409)
        await terminal.expect("bargein: a newer connection drives the session")
        assert await terminal.wait() == 1


async def test_long_lines_are_wrapped_at_words(server: ScriptedServer) -> None:
    """The terminal's own history gets whole words."""
    async with on_terminal("chat", server.url, columns=40) as terminal:
        line = await opening(server)
        terminal.type("hello\r")
        await line.answer()
        await line.send(text(3, "t_1", "interruption " * 9), ended(4, "t_1"))
        for _ in range(3):
            await terminal.expect("interruption interruption interruption")


async def test_chat_without_prompt_toolkit() -> None:
    """A terminal gets the command to install it; pipes do not need it."""
    program = (
        "import sys; sys.modules['prompt_toolkit'] = None\n"
        "from bargein_client.cli import main; sys.exit(main(['chat', 'localhost:9']))"
    )
    async with on_terminal(program=program) as terminal:
        await terminal.expect('chat needs prompt_toolkit: pip install "bargein[cli]"')
        assert await terminal.wait() == 1


async def test_the_client_needs_no_server_package() -> None:
    """Client and command import neither the server nor its extras."""
    program = (
        "import sys, bargein_client, bargein_client.cli, bargein_client.cli.chat\n"
        "bad = {'bargein_server', 'starlette', 'uvicorn', 'openai', 'prompt_toolkit'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=surroundings())
    assert await process.wait() == 0


async def test_a_refused_handshake_hints_at_the_token() -> None:
    """401 and 403 concern the credential."""
    async with scripted_server() as server:
        server.refuse = 401
        async with on_pipes("send", server.url, "hello") as process:
            _out, err, code = await output(process)
        assert code == 1
        assert "--token" in err


@pytest.mark.parametrize("text", ["-", "Tell me a story"])
async def test_a_text_in_place_of_the_server_is_noticed(text: str) -> None:
    """`send` takes the server first, unlike `batch`."""
    async with on_pipes("send", text, "localhost:8000") as process:
        _out, err, code = await output(process)
    assert code == 1
    assert "the server comes first" in err


async def test_a_mounted_application_hints_at_the_path() -> None:
    """Servers refuse a WebSocket on a path without a route with 403, as they do a user."""
    async with scripted_server() as server:
        server.refuse = 403
        url = server.url.removesuffix("/v1/session") + "/chat"
        async with on_pipes("send", url, "hello") as process:
            _out, err, code = await output(process)
        assert code == 1
        assert "the usual path is /v1/session, behind the path of a mounted application" in err


async def test_a_path_without_sessions_hints_at_the_path() -> None:
    """404 concerns the path, not the credential."""
    async with scripted_server() as server:
        server.refuse = 404
        async with on_pipes("send", server.url, "hello") as process:
            _out, err, code = await output(process)
        assert code == 1
        assert "the server serves no sessions at this path" in err
        assert "the usual path is /v1/session" in err
        assert "--token" not in err


@pytest.mark.parametrize("given", ["0", "-3", "two", "1e3", "9" * 5000])
def test_a_concurrency_that_is_no_number_of_inputs(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the command line, without a request."""
    with pytest.raises(SystemExit) as caught:
        main(["batch", "-", f"--concurrency={given}"])
    assert caught.value.code == 2
    assert "--concurrency: expected a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("code", [bp.errors.UNAUTHORIZED, bp.errors.OVERLOADED])
def test_the_hint_fits_the_code(
    code: bp.Code, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A credential does not help against a full server."""

    async def refused(*_: object, **__: object) -> int:
        raise ConnectError("ws://localhost", code.reason, code=code)

    monkeypatch.setattr("bargein_client.cli.command.send_once", refused)
    assert main(["send", "localhost", "hello"]) == 1
    shown = capsys.readouterr().err
    assert code.reason in shown
    assert ("--token" in shown) is (code is bp.errors.UNAUTHORIZED)
    assert "is the server running" not in shown


def test_an_error_of_a_server_is_one_safe_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words of a server move no cursor and imitate no hint."""

    async def refused(*_: object, **__: object) -> int:
        raise InputRejected("busy", "no\x1b]0;title\x07\n  run this\u202e", retryable=False)

    monkeypatch.setattr("bargein_client.cli.command.send_once", refused)
    assert main(["send", "localhost", "hello"]) == 1
    assert capsys.readouterr().err == "bargein: busy: no\u241b]0;title\u2407   run this\ufffd\n"


async def test_a_server_that_does_not_answer_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a terminal, while the user waits for the connection."""
    monkeypatch.setattr("bargein_client.cli.conversation.SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    shown = ""

    def is_reported() -> bool:
        nonlocal shown
        shown += capsys.readouterr().err
        return "Ctrl-C leaves" in shown

    async def wait() -> None:
        async with connected(f"ws://127.0.0.1:{port}/v1/session", None):
            raise AssertionError("nothing answers")

    waiting = asyncio.create_task(wait())
    await until(is_reported)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for writer in writers:
        writer.close()
    silent.close()

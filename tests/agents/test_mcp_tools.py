"""Tools of MCP servers, with real servers made with the package `mcp`: on stdio and on HTTP."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bargein_protocol import Data, Progress, ToolConfirm, ToolDecision, ToolRunning
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.mcp_tools import McpServer, mcp
from bargein_server.agents.tool_sources import Toolset
from bargein_server.agents.tools import ToolError
from live_server import ask, serving
from model_server import Upstream
from processes import ROOT, environment, free_port
from scripted_model import Model, call, check_messages, say
from tool_conversation import Serve, add
from waiting import until

PROGRAM = str(ROOT / "tests" / "support" / "mcp_program.py")


@pytest.fixture(autouse=True)
async def processes_closed() -> AsyncIterator[None]:
    """Wait for the pipes of ended processes, which asyncio closes in later steps of the loop."""
    yield
    await until(lambda: not open_transports(), "the end of all pipes")


def open_transports() -> list[object]:
    # By type: a weak proxy of something that is gone raises when it is asked for its class.
    found = [item for item in gc.get_objects() if issubclass(type(item), BaseSubprocessTransport)]
    return [item for item in found if not item._closed]


class Server:
    """A real MCP server and its log."""

    def __init__(self, folder: Path, http: bool) -> None:
        self.log = folder / "log"
        self.log.touch()
        self.command = [sys.executable, PROGRAM, str(self.log)]
        self._port = free_port() if http else 0
        self._process: asyncio.subprocess.Process | None = None
        self._sources: list[McpServer] = []

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def pids(self) -> list[int]:
        """Numbers of its processes, in the order of their starts."""
        return [int(line.split()[1]) for line in self.lines if line.startswith("pid")]

    def tools(self, **options: Any) -> McpServer:
        """Return its tools."""
        target: Any = f"http://127.0.0.1:{self._port}/mcp" if self._port else self.command
        source = mcp(target, **{"name": "tests", **options})
        self._sources.append(source)
        return source

    async def start(self) -> None:
        """Start it, when it serves HTTP."""
        if self._port:
            self._process = await asyncio.create_subprocess_exec(
                *self.command, str(self._port), stderr=asyncio.subprocess.DEVNULL
            )
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return

    async def kill(self) -> None:
        """Kill the newest process."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        else:
            os.kill(self.pids[-1], 9)
            await until(lambda: gone(self.pids[-1]), "the process")

    async def stop(self) -> None:
        for source in self._sources:
            await source.shutdown()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        assert all(gone(pid) for pid in self.pids)


def gone(pid: int) -> bool:
    """Return whether a process is no more, and was waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(params=["stdio", "http"])
async def remote(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """A server on each transport."""
    made = Server(tmp_path, request.param == "http")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Server]:
    """A server on stdio."""
    made = Server(tmp_path, False)
    yield made
    await made.stop()


async def run(source: McpServer, name: str, **arguments: Any) -> tuple[Any, list[Any]]:
    """Call a tool; return its result and what it emitted."""
    emitted: list[Any] = []

    async def emit(output: Any) -> None:
        emitted.append(output)

    return await source.call(name, arguments, emit), emitted


async def test_a_model_calls_the_tools_of_a_server(remote: Server, converse: Serve) -> None:
    """They are described to the model, run in parallel, and their results go back to it."""
    source = remote.tools()
    talk = converse([call("add", a=1, b=2), call("add", a=3, b=4)], [say("3 and 7")], tools=[source])
    await talk.ask()
    assert talk.end.status == "completed"
    request = talk.model.requests[0]
    described = {tool["function"]["name"]: tool["function"] for tool in request["tools"]}
    assert described["add"]["description"] == "Add two numbers."
    assert set(described["add"]["parameters"]["properties"]) == {"a", "b"}
    assert talk.model.results() == ['{"result":3}', '{"result":7}']
    assert [running.arguments for running in talk.of(ToolRunning)] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


async def test_names_and_schemas_that_model_apis_refuse(
    local: Server, converse: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Names are made legal and differ; a schema that is none takes any object, with one warning."""
    source = local.tools()
    again = local.tools()
    talk = converse([call("files_read_all"), call("tests_add", a=1, b=2), call("bad", value="x")],
                    [say("Done")], tools=[add, source, again])  # fmt: skip
    await talk.ask()
    described = {tool["function"]["name"]: tool["function"] for tool in talk.model.requests[0]["tools"]}
    assert {"add", "tests_add", "tests_add_2", "files_read_all", "tests_pid"} <= set(described)
    assert all(name.replace("_", "").isalnum() for name in described)
    assert described["add"]["parameters"]["required"] == ["a", "b"]
    assert described["bad"]["parameters"] == {"type": "object", "properties": {}}
    assert talk.model.results() == ['{"result":"read"}', '{"result":3}', '{"result":"x"}']
    warnings = [record for record in caplog.records if "schema of the MCP tool bad" in record.message]
    assert len(warnings) == 2  # one for each server


async def test_results_of_every_kind(remote: Server) -> None:
    """Text, structured, error, image, resource: the model gets text, the client gets the image."""
    source = remote.tools()
    assert (await run(source, "add", a=1, b=2))[0] == {"result": 3}
    assert (await run(source, "pid"))[0] == str(remote.pids[-1])
    result, emitted = await run(source, "picture")
    assert result == [
        {"type": "text", "text": "a dot"},
        {"type": "image", "mime_type": "image/png", "bytes": 9},
    ]
    assert emitted == [Data(name="image", value={"mime_type": "image/png", "data": "iVBORyBkb3Q="})]
    assert (await run(source, "book"))[0] == [
        {"type": "resource", "uri": "book://1", "mime_type": "text/plain", "text": "Call me Ishmael."},
        {"type": "resource_link", "uri": "book://2", "name": "page 2"},
    ]
    with pytest.raises(ToolError, match="Error executing tool fail"):
        await run(source, "fail")
    with pytest.raises(ToolError):
        await run(source, "no such tool")
    with pytest.raises(ToolError):
        await run(source, "add", a="many")
    assert (await run(source, "add", a=1, b=2))[0] == {"result": 3}


async def test_an_interrupt_cancels_the_call_at_the_server(remote: Server, converse: Serve) -> None:
    """The server is notified, its progress was shown, and the history says `cancelled`."""
    source = remote.tools()
    talk = converse([call("wait")], tools=[source])
    turn = talk.line.ask()
    await until(lambda: talk.of(Progress), "the progress")
    [progress] = talk.of(Progress)
    assert (progress.value, progress.total, progress.label) == (1, 3, "first third")
    talk.line.interrupt(turn)
    assert talk.end.status == "interrupted"
    await until(lambda: "cancelled wait" in remote.lines, "the notification")
    talk.model.steps += [[call("add", a=1, b=2)], [say("Yes")]]
    await talk.ask()
    check_messages(talk.model.requests[-1]["messages"])
    assert talk.model.results() == ["cancelled", '{"result":3}']
    assert len(remote.pids) == 1, "the connection is the same"


async def test_a_call_has_a_time_limit(local: Server, converse: Serve) -> None:
    """After it the call has failed, and is cancelled at the server."""
    talk = converse([call("wait")], [say("Pity")], tools=[local.tools(timeout_s=0.5)])
    await talk.ask()
    assert talk.model.results() == ["error: no result within 0.5 s"]
    await until(lambda: "cancelled wait" in local.lines, "the notification")


async def test_a_server_that_dies_is_a_failed_tool(local: Server, converse: Serve) -> None:
    """The turn goes on, the call is not made again, and the next use starts the server again."""
    talk = converse([call("die")], [call("add", a=1, b=2)], [say("3")], tools=[local.tools()])
    await talk.ask()
    assert talk.end.status == "completed"
    assert talk.model.results() == [
        "error: the server of this tool has ended; it is started again at the next call", '{"result":3}',
    ]  # fmt: skip
    assert local.lines.count("died") == 1
    assert len(local.pids) == 2


async def test_a_server_that_died_while_idle(remote: Server) -> None:
    """The next call runs on a new connection, once."""
    source = remote.tools()
    await source.startup()
    await run(source, "pid")
    await remote.kill()
    await remote.start()
    if len(remote.pids) == 1:  # on stdio, the call starts it
        await until(lambda: source._connection is not None and not source._connection.open, "the end")
        await run(source, "pid")
    else:
        await run_until_it_answers(source)
    assert (await run(source, "pid"))[0] == str(remote.pids[-1])
    assert len(remote.pids) == 2


async def run_until_it_answers(source: McpServer) -> None:
    """Call until a server that was started again answers; at most one call fails."""
    try:
        await run(source, "pid")
    except ToolError:
        await run(source, "pid")


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("no-such-command --flag", "there is no command 'no-such-command': install it"),
        (f"{sys.executable} -c 'print(1)'", "run the command by hand to see why"),
        ("http://127.0.0.1:9/mcp", "ConnectError: check the address and the headers"),
        ("sleep 60", "it did not list its tools within 0.3 s"),
    ],
)
async def test_a_server_that_cannot_be_reached(
    target: str, cause: str, converse: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """One line has cause and remedy; the turn is answered without the tools."""
    source = mcp(target, name="files", start_s=0.3 if target == "sleep 60" else 10)
    talk = converse([call("add", a=1, b=2)], [say("3")], [say("Yes")], tools=[add, source])
    await talk.ask()
    assert talk.end.status == "completed"
    assert [tool["function"]["name"] for tool in talk.model.requests[0]["tools"]] == ["add"]
    await talk.ask()
    lines = [record for record in caplog.records if record.name == "bargein.tools"]
    assert [record.exc_info for record in lines] == [None], "one line, and no second try of a turn"
    assert cause in lines[0].message
    await source.shutdown()


def test_a_missing_command_is_named_under_uvloop(caplog: pytest.LogCaptureFixture) -> None:
    """Whose error has no name of a file."""
    source = mcp("no-such-command --flag")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(source.startup())
        runner.run(source.shutdown())
    assert "there is no command 'no-such-command': install it" in caplog.text


async def test_the_list_of_tools_changes(remote: Server, converse: Serve) -> None:
    """The next step of the same turn has the new tool."""
    source = remote.tools()
    talk = converse([call("grow")], [call("late")], [say("Done")], tools=[source])
    await source.startup()

    def named() -> list[str]:
        return [tool.remote_name for tool in source.remote_tools]

    assert "late" not in named()
    await run(source, "grow")
    await until(lambda: "late" in named(), "the new list")
    talk.model.steps[0] = [call("late")]
    talk.model.steps[1:] = [[say("Done")]]
    await talk.ask()
    assert "late" in [tool["function"]["name"] for tool in talk.model.requests[0]["tools"]]
    assert talk.model.results() == ['{"result":"better late than never"}']


async def test_only_some_tools_and_consent(local: Server, converse: Serve) -> None:
    """Other tools are not offered, and the client is asked before a call."""
    source = local.tools(only=["add", "pid"], confirm={"add"})
    talk = converse([call("add", a=1, b=2)], [say("3")], tools=[source])
    talk.line.ask()
    await talk.line.until("tool.confirm")
    [confirm] = talk.of(ToolConfirm)
    talk.line.send(ToolDecision(call_id=confirm.call_id, allow=True))
    await talk.line.until("turn.ended")
    assert [tool["function"]["name"] for tool in talk.model.requests[0]["tools"]] == ["add", "pid"]
    assert talk.result.output == {"result": 3}


async def test_many_calls_of_many_tasks(remote: Server) -> None:
    """A connection serves all at once, and a cancelled call leaves no scope behind in any task."""
    source = remote.tools()
    await asyncio.create_task(source.startup())

    async def one(number: int) -> Any:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            waiting = group.create_task(run(source, "wait"))
            result, _ = await run(source, "add", a=number, b=1)
            waiting.cancel()
        await asyncio.sleep(0)
        return result["result"]

    assert await asyncio.gather(*(one(number) for number in range(12))) == list(range(1, 13))
    await until(lambda: remote.lines.count("cancelled wait") == remote.lines.count("began wait"), "the ends")
    assert len(remote.pids) == 1
    await asyncio.create_task(source.shutdown())


async def test_a_cancelled_call_leaves_nothing(local: Server) -> None:
    """When the cancelled caller ends, the request is over and the server was notified."""
    source = local.tools()
    calling = asyncio.create_task(run(source, "wait"))
    await until(lambda: "began wait" in local.lines, "the call")
    calling.cancel()
    await asyncio.wait({calling})
    running = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    assert "Client.call_tool" not in running
    await until(lambda: "cancelled wait" in local.lines, "the notification")


async def test_shutdown_ends_the_process(local: Server) -> None:
    """Also of one that ignores the end of its input, within the time of `shutdown()`."""
    source = local.tools()
    local.command.append("--stubborn")
    stubborn = local.tools()
    await Toolset([source, stubborn]).startup()
    assert len(local.pids) == 2
    loop = asyncio.get_running_loop()
    start = loop.time()
    await Toolset([source, stubborn]).shutdown()
    assert loop.time() - start < 3.0
    assert all(gone(pid) for pid in local.pids)
    assert local.lines.count("terminated") == 1


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    """A server that starts when the application is stopped is ended."""
    script = "import os, time, sys; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    log = tmp_path / "pid"
    source = mcp([sys.executable, "-c", script, str(log)])
    starting = asyncio.create_task(source.startup())
    while not (log.exists() and log.read_text()):
        await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    assert gone(int(log.read_text()))


async def test_the_server_starts_and_stops_it(local: Server) -> None:
    """An application starts the MCP server before the first turn and ends it with itself."""
    async with Upstream(Model([call("add", a=1, b=2)], [say("3")])) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, tools=[local.tools()])
        async with serving(agent) as live, live.connect() as client:
            assert len(local.pids) == 1
            await ask(client)
            assert (await client.until("turn.ended"))["status"] == "completed"
    assert gone(local.pids[0])


async def test_the_command_line(local: Server) -> None:
    """`--mcp` gives the tools to the model; after SIGTERM there is no process left."""
    async with Upstream(Model([call("add", a=1, b=2)], [say("3")])) as upstream:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bargein_server", "--agent", "model", "--model", "m", "--port", "0",
            "--mcp", " ".join(local.command),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**environment(), "OPENAI_BASE_URL": upstream.url},
        )  # fmt: skip
        assert process.stdout is not None
        assert b"bargein serves model" in await process.stdout.readline()
        assert len(local.pids) == 1
        process.terminate()
        await process.wait()
    assert gone(local.pids[0])


def test_a_target_that_is_none() -> None:
    """The message has the forms that are."""
    targets: list[Any] = ["", "ftp://example.com", []]
    for target in targets:
        with pytest.raises(ValueError, match="expected a command or an http URL"):
            mcp(target)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("npx -y @modelcontextprotocol/server-files /tmp", "server-files"),
        ("python3.11 tools.py --all", "tools"),
        ("./my-server x", "my-server"),
        ("https://user:secret@example.com/mcp", "example.com"),
    ],
)
def test_the_name_of_a_server(target: str, name: str) -> None:
    """It is the program or the host, without credentials."""
    assert mcp(target).name == name


ODD = str(ROOT / "tests" / "support" / "odd_mcp_server.py")


@asynccontextmanager
async def odd_server(how: str) -> AsyncIterator[McpServer]:
    """A server that breaks a rule."""
    source = mcp([sys.executable, ODD, how])
    await source.startup()
    yield source
    await source.shutdown()


@pytest.mark.parametrize("how", ["junk", "pages"])
async def test_a_server_with_odd_habits(how: str) -> None:
    """Lines of a log on its output, some of them no text, and a list without an end: its tools work."""
    async with odd_server(how) as source:
        assert [remote.remote_name for remote in source.remote_tools] == ["echo"]
        assert (await run(source, "echo"))[0] == "ok"


async def test_an_error_with_the_code_of_a_closed_connection() -> None:
    """Its message is the tool's, and the connection stays open."""
    async with odd_server("errors") as source:
        with pytest.raises(ToolError, match="the disk is full"):
            await run(source, "echo")
        with pytest.raises(ToolError, match="the disk is full"):
            await run(source, "echo")


async def test_a_list_that_breaks_the_protocol(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and does not quote the server."""
    async with odd_server("invalid") as source:
        assert source.remote_tools == []
    assert "do not follow the protocol" in caplog.text
    assert "none" not in caplog.text


async def test_tools_that_break_the_protocol() -> None:
    """One of them hides no other; what can be understood of each is offered."""
    async with odd_server("tools") as source:
        offered = {remote.remote_name: remote.parameters for remote in source.remote_tools}
        open_schema = {"type": "object", "properties": {}}
        names = ("none", "array", "null", "output", "echo")
        assert offered == dict.fromkeys(names, open_schema) | {
            "untyped": {"type": "object", "properties": {"x": {"type": "string"}}}
        }
        assert (await run(source, "output"))[0] == "ok"

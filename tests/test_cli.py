"""`bargein-server`: what it says, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.asyncio.client import connect

from bargein_server import __version__, run
from bargein_server.cli import AgentNotFound, _parser, load_agent, main
from bargein_server.examples.demo import demo
from bargein_server.options import decided_by_code
from bargein_server.settings_reader import SETTINGS
from live_server import RawClient, request
from processes import free_port
from waiting import WAIT_S

HELLO = """
import asyncio

async def agent(turn):
    while True:
        yield "word "
        await asyncio.sleep(0.01)

async def stubborn(turn):
    yield "word "
    while True:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass

def not_async(turn):
    yield "x"

async def no_yield(turn):
    return "x"

class Agent:
    async def __call__(self, turn):
        yield "x"
"""


@pytest.fixture
def hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an agent, as the working directory."""
    (tmp_path / "hello.py").write_text(HELLO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "hello", raising=False)
    return tmp_path


@asynccontextmanager
async def command(*arguments: str, cwd: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `bargein-server` on a free port; yields the process and the URL that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", *arguments, "--port", "0",
        cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ.copy(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await process.stdout.readline()).decode()
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def turn_of(client: RawClient) -> None:
    await client.send({"type": "input.text", "id": "i", "text": "hello"})
    await client.until("text.delta")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("agent", ["agent", "stubborn"])
async def test_a_signal_ends_turns_then_connections_then_the_server(
    hello: Path, stop: signal.Signals, agent: str
) -> None:
    """The client is told how its turn ended; the exit is in time even when the agent ignores its cancel."""
    limits = ("--drain-s", "0.1", "--cleanup-grace-s", "0.1", "--cleanup-kill-s", "0.1")
    async with (
        command(f"hello:{agent}", *limits, cwd=hello) as (process, url),
        connect(url, proxy=None) as socket,
    ):
        client = RawClient(socket)
        await turn_of(client)
        process.send_signal(stop)
        end = await client.until("turn.ended")
        assert (end["status"], end["reason"]) == ("failed", "shutdown")
        assert (await client.closed())[0] == 1012
        async with asyncio.timeout(WAIT_S):
            await process.wait()


async def test_it_prints_where_it_listens_and_how_to_talk_to_it(hello: Path) -> None:
    """The first line ends with the URL; the second is the command to type."""
    async with command("hello:agent", cwd=hello) as (process, url):
        assert url.startswith("ws://localhost:")
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode() == f"talk to it:  bargein chat {url}\n"


async def test_the_garbage_collector_is_calm(tmp_path: Path) -> None:
    """What was loaded is never walked through again, and what lives seldom."""
    agent = (
        "import gc\n\nasync def agent(turn):\n    yield f'{gc.get_freeze_count()} {gc.get_threshold()[2]} '\n"
    )
    (tmp_path / "collected.py").write_text(agent, "utf-8")
    async with (
        command("collected:agent", cwd=tmp_path) as (_, url),
        connect(url, proxy=None) as socket,
    ):
        client = RawClient(socket)
        await turn_of(client)
        frozen, full = map(int, client.frames[-1]["text"].split())
    assert frozen > 10_000
    assert full == 60


@pytest.mark.parametrize("how", ["flag", "variable"])
async def test_metrics_are_switched_on(hello: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `--metrics` or BARGEIN_METRICS; a flag overrules the variable."""
    if how == "variable":
        monkeypatch.setenv("BARGEIN_METRICS", "true")
    flag = ["--metrics"] if how == "flag" else []
    async with command("hello:agent", *flag, cwd=hello) as (_, url):
        assert (await request(urlsplit(url).port or 0, "/metrics"))[0] == 200
    async with command("hello:agent", "--no-metrics", cwd=hello) as (_, url):
        assert (await request(urlsplit(url).port or 0, "/metrics"))[0] == 404


async def test_logs_as_json(hello: Path) -> None:
    """Every line of the command is JSON, uvicorn's too; nothing is said anywhere else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "hello:agent", "--port", "0", "--log-format", "json",
        "--drain-s", "0", "--log-level", "debug",
        cwd=hello, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[dict[str, Any]] = []

    async def next_line(message: str) -> dict[str, Any]:
        assert process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            while not lines or lines[-1]["message"] != message:
                lines.append(json.loads(await process.stderr.readline()))
        return lines[-1]

    try:
        url = (await next_line("server.listening"))["url"]
        async with connect(url, proxy=None) as socket:
            await turn_of(RawClient(socket))
            process.send_signal(signal.SIGTERM)
            ended = await next_line("turn.ended")
            assert (ended["status"], ended["reason"]) == ("failed", "shutdown")
            assert (await next_line("session.ended"))["session_id"] == ended["session_id"]
        output, rest = await asyncio.wait_for(process.communicate(), WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
    assert output == b""
    lines += map(json.loads, rest.splitlines())
    assert "uvicorn.error" in {line["logger"] for line in lines}
    assert "hello" not in {line.get("text") for line in lines}


async def test_logs_as_text(hello: Path) -> None:
    """A line for the turn, with its fields, on stderr."""
    async with (
        command("hello:agent", "--drain-s", "0", cwd=hello) as (process, url),
        connect(url, proxy=None) as socket,
    ):
        await turn_of(RawClient(socket))
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            text = (await process.stderr.read()).decode()
    at = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "
    line = at + r"INFO bargein.turn: turn.ended turn_id=\w+ .*status=failed reason=shutdown "
    assert re.search(line, text, re.MULTILINE)


async def test_traces_are_sent_where_opentelemetry_is_told(
    hello: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--traces` alone needs no code: OTLP over HTTP, by the variables of OpenTelemetry."""
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        received.set_result(head + await reader.readexactly(size))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    collector = await asyncio.start_server(collect, "127.0.0.1")
    async with collector:
        port = collector.sockets[0].getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with (
            command("hello:agent", "--traces", "--drain-s", "0", cwd=hello) as (process, url),
            connect(url, proxy=None) as socket,
        ):
            await turn_of(RawClient(socket))
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WAIT_S):
                sent = await received
                await process.wait()
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/traces ")
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "bargein"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["turn"]


@pytest.mark.parametrize(
    "missing", ["opentelemetry", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_traces_without_their_packages_are_a_wrong_call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """One line that says what to install."""
    monkeypatch.delitem(sys.modules, "bargein_server.telemetry.traces", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    error = said(capsys, "--traces")
    assert error.endswith(f'traces needs {missing}: pip install "bargein[otel]"\n')


def test_metrics_without_their_package_are_a_wrong_call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what to install."""
    monkeypatch.delitem(sys.modules, "bargein_server.telemetry.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    error = said(capsys, "--metrics")
    assert error.endswith('metrics needs prometheus_client: pip install "bargein[metrics]"\n')


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command says when it refuses to start."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "expected module:agent, got 'nothing'"),
        (["missing:agent"], "no module named 'missing'"),
        (["hello:missing"], "module 'hello' has no 'missing'"),
        (["hello:no_yeild"], "has no 'no_yeild'; did you mean no_yield?"),
        (
            ["sub/hello.py:agent"],
            "expected a module, got the file 'sub/hello.py'; did you mean sub.hello:agent?",
        ),
        (["hello:not_async"], "write `async def not_async`"),
        (["hello:no_yield"], "no_yield() has no yield"),
        (["hello:Agent"], "got the class Agent: call it first"),
        (["--workers", "0"], "expected 1 to 64, got '0'"),
        (["--workers", "many"], "expected 1 to 64, got 'many'"),
        (["--hold-s", "-1"], "hold_s: expected more than 0 seconds, got -1"),
        (["--hold-s", "soon"], "hold_s: expected a number of seconds, got 'soon'"),
        (["--on-busy", "shrug"], "on_busy: expected interrupt, queue or reject, got 'shrug'"),
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--host", "example.com"], "can be reached from other machines"),
        (["--port", "99999"], "expected 0 to 65535, got '99999'"),
        (["--port", "-1"], "--port"),
        (["--tokens", "missing.txt"], "cannot read missing.txt"),
        (["--origin", "example.com"], "expected an origin such as https://example.com, got 'example.com'"),
        (["--tokens", "hello.py"], "hello.py, line"),
        (["--tokens", "none.txt"], "none.txt has no tokens: add lines of `principal token`"),
        (["--tokens", "twice.txt"], "twice.txt, line 2: the token of another line"),
        (["--agent", "tone", "hello:agent"], "expected hello:agent or --agent tone, not both"),
        (["--stalled-s", "1e9"], "stalled_s: expected at most 2000000 seconds"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    hello: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Exit code 2 and one sentence, no traceback."""
    (hello / "none.txt").write_text("\ufeff# only\n  # comments\n\n")
    (hello / "twice.txt").write_text("ann secret\nbob secret\n")
    error = said(capsys, *arguments)
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_token_does_not_let_everybody_in(
    hello: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """A variable that a deployment forgot to fill is an error, with its remedy."""
    monkeypatch.setenv("BARGEIN_TOKEN", value)
    assert "BARGEIN_TOKEN is empty: set it to a secret, or unset it" in said(capsys, "hello:agent")
    with pytest.raises(SystemExit) as exited:
        run(demo, port=0)
    assert exited.value.code == 2


def test_the_openai_agent_needs_a_model_and_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the variable or flag that is missing."""
    for variable in ("OPENAI_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    missing_key = said(capsys, "--agent", "openai", "--model", "m")
    assert "--agent openai: expected OPENAI_API_KEY, or OPENAI_BASE_URL for another server" in missing_key
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost/v1")
    assert "give --model NAME or set OPENAI_MODEL" in said(capsys, "--agent", "openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost")
    wrong_url = said(capsys, "--agent", "openai", "--model", "m")
    assert "expected base_url, or OPENAI_BASE_URL, of the form https://host/v1" in wrong_url


async def test_a_key_alone_starts_with_a_default_model(tmp_path: Path) -> None:
    """The command starts, and says which model it is."""
    named = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "--agent", "openai", "--port", "0",
        env=named | {"OPENAI_API_KEY": "k"}, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        line = await asyncio.wait_for(server.stdout.readline(), 30)
        assert line.startswith(b"bargein serves openai (gpt-5-mini) at ws://")
    finally:
        server.kill()
        await server.communicate()


def test_the_model_agent_needs_a_model_a_key_and_a_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the flag, the variable or the extra that is missing."""
    for variable in (
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
    ):
        monkeypatch.delenv(variable, raising=False)
    assert "error: --agent model: expected a model: give --model PROVIDER:NAME" in said(
        capsys, "--agent", "model"
    )
    for model, key in (("anthropic:claude", "ANTHROPIC_API_KEY"), ("google:gemini", "GOOGLE_API_KEY"),
                       ("openai:gpt", "OPENAI_API_KEY"), ("ft:gpt:mine", "OPENAI_API_KEY")):  # fmt: skip
        assert f"pass api_key= or set {key}" in said(capsys, "--agent", "model", "--model", model)
    unknown = said(capsys, "--agent", "model", "--model", "gemini:flash")
    assert "unknown provider 'gemini': expected openai, anthropic, google; for another server" in unknown
    assert "expected a model such as google:NAME" in said(capsys, "--agent", "model", "--model", "google:")
    for package, model, name in (
        ("anthropic", "anthropic:claude", "ANTHROPIC"),
        ("google", "google:gemini", "GEMINI"),
    ):
        monkeypatch.setenv(f"{name}_API_KEY", "k")
        missing = "anthropic" if package == "anthropic" else "google.genai"
        monkeypatch.setitem(sys.modules, missing, None)
        for module in (f"pydantic_ai.models.{package}", f"pydantic_ai.providers.{package}"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        error = said(capsys, "--agent", "model", "--model", model)
        assert f'pip install "bargein[{package}]"' in error


def test_an_unknown_variable_is_a_wrong_call(
    hello: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the nearest one."""
    monkeypatch.setenv("BARGEIN_HODL_S", "3")
    assert "did you mean BARGEIN_HOLD_S?" in said(capsys, "hello:agent")


def test_a_root_path_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong one is a wrong call."""
    assert "expected a root path such as /chat, got 'chat'" in said(capsys, "--root-path", "chat")


async def test_host_and_port_can_be_variables(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BARGEIN_HOST and BARGEIN_PORT; a flag takes precedence."""
    monkeypatch.setenv("BARGEIN_HOST", "localhost")
    monkeypatch.setenv("BARGEIN_PORT", "99999")
    async with command("hello:agent", cwd=hello) as (_, url):  # it passes --port 0
        assert (await request(urlsplit(url).port or 0, "/healthz"))[0] == 200
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "hello:agent", cwd=hello, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 2
    assert b"expected 0 to 65535, got '99999'" in error


def test_an_import_error_inside_the_module_is_not_hidden(hello: Path) -> None:
    """The module is there: what it imports is not, and the author wants to see where."""
    (hello / "broken.py").write_text("import does_not_exist_anywhere")
    with pytest.raises(ModuleNotFoundError, match="does_not_exist_anywhere"):
        load_agent("broken:agent")


def test_an_instance_can_be_named_by_a_path(hello: Path) -> None:
    """`module:object.attribute`."""
    (hello / "deep.py").write_text("class A:\n  async def go(self, turn):\n    yield 'x'\nclass B: a = A()\n")
    assert callable(load_agent("deep:B.a.go"))
    with pytest.raises(AgentNotFound):
        load_agent("deep:B.b")


def test_every_setting_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` lists each under its heading, with its description, unit and default."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for setting in SETTINGS.values():
        assert f"{setting.group}: " in text
        described = text.partition(f" {setting.flag}")[2].partition(" --")[0]
        if not isinstance(setting.default, bool):
            assert setting.description in described
            assert described.split(" (")[-1].startswith(
                f"{setting.unit}, default: " if setting.unit else "default: "
            )


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
async def test_without_its_extra_it_says_how_to_install_it(package: str, tmp_path: Path) -> None:
    """The package is there with the client; one line, no traceback."""
    program = f"import sys; sys.modules[{package!r}] = None; sys.argv[0] = 'bargein-server'\n"
    program += "from bargein_server.__main__ import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode().startswith("bargein-server needs ")
    assert error.decode().endswith(': pip install "bargein[server]"\n')
    assert error.count(b"\n") == 1


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
async def test_an_application_says_how_to_install_its_extra(package: str, tmp_path: Path) -> None:
    """The last line of the traceback of an application that embeds the server."""
    program = f"import sys; sys.modules[{package!r}] = None\nfrom bargein_server import create_app"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    last = error.decode().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: bargein_server.create_app needs ")
    assert last.endswith(': pip install "bargein[server]"')


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version`."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"bargein-server {__version__}\n"


async def test_a_port_that_is_taken_is_a_clear_error(hello: Path) -> None:
    """Exit code 3 and the address, no traceback."""
    async with command("hello:agent", cwd=hello) as (_, url):
        port = url.rsplit(":", 1)[1].split("/")[0]
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bargein_server", "hello:agent", "--port", port,
            cwd=hello, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await second.communicate()
    assert second.returncode not in (0, None)
    assert b"in use" in output
    assert b"another port" in output
    assert port.encode() in output
    assert b"Traceback" not in output


async def test_output_that_nobody_reads_does_not_end_the_server(hello: Path) -> None:
    """As behind `| head -1`: it serves, and its log has no error."""
    read, write = os.pipe()
    os.close(read)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "hello:agent", "--port", str(port), "--drain-s", "0",
        cwd=hello, stdout=write, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    socket = await connect(f"ws://127.0.0.1:{port}/v1/session", proxy=None)
                except ConnectionRefusedError:
                    assert process.returncode is None, (await process.stderr.read()).decode()
                    await asyncio.sleep(0.05)
                else:
                    break
            await turn_of(RawClient(socket))
            process.send_signal(signal.SIGINT)
            errors = (await process.stderr.read()).decode()
            await process.wait()
            await socket.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Traceback" not in errors
    assert "BrokenPipeError" not in errors


TALKATIVE = """
import logging
from bargein_server import TurnFailed

async def agent(turn):
    yield "word "
    logging.getLogger("openai").debug("Request options: %s", turn.text)
    try:
        raise ValueError(turn.text)
    except ValueError as error:
        raise TurnFailed("upstream") from error
"""


async def test_debug_logs_no_credential_and_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bearers, tickets and what users say stay out of the log, also those that libraries would log."""
    monkeypatch.setenv("BARGEIN_TOKEN", "secret-bearer")
    (tmp_path / "talkative.py").write_text(TALKATIVE, "utf-8")
    bearer = {"Authorization": "Bearer secret-bearer"}
    async with command("talkative:agent", "--log-level", "debug", cwd=tmp_path) as (process, url):
        _, _, body = await request(
            urlsplit(url).port or 0, "/v1/tickets", "POST", Authorization=bearer["Authorization"]
        )
        ticket = json.loads(body)["ticket"]
        for headers, item in ((bearer, "bargein.v1.json"), ({}, f"bargein.ticket.{ticket}")):
            offers: Any = ["bargein.v1.json", item]
            async with connect(url, additional_headers=headers, subprotocols=offers, proxy=None) as socket:
                client = RawClient(socket)
                await client.send({"type": "input.text", "id": "i", "text": "what-i-say"})
                await client.until("turn.ended")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            log = (await process.stderr.read()).decode()
    assert "raise ValueError(turn.text)" in log  # the place of the failure
    for secret in ("secret-bearer", ticket, "what-i-say"):
        assert secret not in log


async def test_readiness_can_be_read_while_the_server_drains(hello: Path) -> None:
    """On new connections, so that a balancer sees it."""
    async with command("hello:agent", "--drain-s", "30", cwd=hello) as (process, url):
        port = urlsplit(url).port or 0
        async with connect(url, proxy=None) as socket:
            client = RawClient(socket)
            await client.send({"type": "input.text", "id": "i", "text": "x"})
            await client.until("text.delta")
            process.send_signal(signal.SIGTERM)
            await client.until("goaway")
            status, _, body = await request(port, "/readyz")
            assert (status, json.loads(body)["status"]) == (503, "draining")
            process.send_signal(signal.SIGTERM)  # hurries
        async with asyncio.timeout(WAIT_S):
            await process.wait()


SITE = """
from starlette.applications import Starlette
from starlette.routing import Mount
from bargein_server import create_app, lifespan
from hello import agent

chat = create_app(agent)
site = Starlette(routes=[Mount("/chat", chat)], lifespan=lambda site: lifespan(chat))
"""


@pytest.mark.parametrize(
    ("source", "options", "cause"),
    [
        (SITE, ["--hold-s", "1"], "--hold-s"),
        (SITE, ["--origin", "https://a.example"], "--origin"),
        (SITE, ["--store", "sqlite:///other.db"], "decides about --store"),
        (SITE, ["--voice", "none", "--turn-judge"], "--voice, --turn-judge"),
        (SITE, ["--host", "0.0.0.0"], "clients need a credential"),
        ("from starlette.applications import Starlette\nsite = Starlette()", [], "none of create_app()"),
    ],
)
async def test_an_application_decides_about_its_settings(
    hello: Path, source: str, options: list[str], cause: str
) -> None:
    """Options that would have no effect are refused, and so are applications without ours."""
    (hello / "site_of_ours.py").write_text(source)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "site_of_ours:site", *options,
        cwd=hello, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(3 * WAIT_S):
        _, error = await process.communicate()
    assert process.returncode == 2
    assert cause in error.decode()


class OtherStore:
    """A store that an application has made itself."""


@pytest.mark.parametrize(
    ("store", "is_refused"),
    [("sqlite:///kept.db", False), ("sqlite:///other.db", True), (None, True), (OtherStore(), False)],
)
def test_the_variable_of_the_store_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, store: object, is_refused: bool
) -> None:
    """Conversations are kept where it says, because the application reads it, or nothing starts."""
    monkeypatch.setenv("BARGEIN_STORE", "sqlite:///kept.db")
    options = _parser().parse_args(["site:site"])
    assert decided_by_code(options, [store]) == (["BARGEIN_STORE"] if is_refused else [])

"""Every snippet of the documentation runs, every command exists, and every link leads somewhere."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openai import AsyncOpenAI

from bargein_server import Settings, Turn
from bargein_server.endpoints.doors.table import DOORS
from documentation import ROOT, Block, anchors, blocks, commands, links, pages
from live_server import Serving, ask, serving
from model_server import Call, Upstream
from provider_servers import AnthropicAnswer
from waiting import WAIT_S

DOCS = ROOT / "server" / "docs"
GUIDES = sorted(str(path.relative_to(ROOT)) for path in (*DOCS.glob("*.md"), *DOCS.glob("doors/*.md")))
URL = "ws://localhost:8000"
HTTP_URL = "http://localhost:8000"
FREE = {"export", "npm", "node"}
"""Commands of others, whose arguments are not checked."""


async def echo(turn: Turn) -> Any:
    """Repeat the input."""
    yield f"You said: {turn.text}."


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model that answers every request."""
    async with Upstream(answer_request) as upstream:
        for provider in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{provider}_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", upstream.url.removesuffix("/v1"))
        yield upstream


def answer_request(call: Call) -> None:
    """Answer in the API of the request."""
    if not call.path.startswith("/v1/messages"):
        call.answer("A boat.")
        return
    answer = AnthropicAnswer(call)
    answer.open()
    answer.say("A boat.")
    answer.finish()


def execute(block: Block, scope: dict[str, Any]) -> dict[str, Any]:
    """Execute a block in a scope and return its new or changed names."""
    before = dict(scope)
    source = "\n" * (block.line - 1) + block.text.replace("asyncio.run(main())", "")
    exec(compile(source, str(ROOT / block.page), "exec"), scope)
    return {name: value for name, value in scope.items() if before.get(name) is not value}


def is_agent(value: object) -> bool:
    """Return whether a value is an agent: one parameter named `turn`, and an async generator."""
    function = value if inspect.isfunction(value) else vars(type(value)).get("__call__")
    if not inspect.isasyncgenfunction(function):
        return False
    return [name for name in inspect.signature(function).parameters if name != "self"] == ["turn"]


async def answered(agent: Any) -> dict[str, Any]:
    """Serve an agent, ask it once, and return the end of its turn."""
    async with serving(agent) as server, server.connect() as client:
        await ask(client)
        return await client.until("turn.ended")


async def play(program: Block, scope: dict[str, Any], agent: Any) -> None:
    """Run the `main()` of a client program against an agent."""
    async with serving(agent, doors=DOORS) as server:
        text = program.text.replace(URL, server.url).replace(HTTP_URL, f"http://127.0.0.1:{server.port}")
        execute(program._replace(text=text), scope)
        async with asyncio.timeout(2 * WAIT_S):
            await scope["main"]()


@pytest.mark.parametrize("page", GUIDES)
async def test_snippets_run(
    page: str, model: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Agents answer an input to its end, client programs run against the last agent, the rest executes."""
    monkeypatch.chdir(tmp_path)  # for the files that snippets write
    snippet = ModuleType("snippet")
    monkeypatch.setitem(sys.modules, "snippet", snippet)  # frameworks look up the module of a handler
    scope: dict[str, Any] = vars(snippet)
    agent: Any = echo
    for block in blocks(page, "python"):
        if "asyncio.run(main())" in block.text:
            await play(block, scope, agent)
            continue
        agents = [value for value in execute(block, scope).values() if is_agent(value)]
        expected = "failed" if "raise TurnFailed" in block.text else "completed"
        for agent in agents:
            assert (await answered(agent))["status"] == expected, f"{page}:{block.line}"
        if block.file is not None:
            name = block.file.removesuffix(".py")
            module = ModuleType(name)
            vars(module).update(scope)
            monkeypatch.setitem(sys.modules, name, module)
    for command in commands(page):
        for target in re.findall(r"bargein-server(?!.* --model).* ([a-zA-Z_][\w.]*):([a-zA-Z_]\w*)", command):
            assert is_agent(getattr(import_module(target[0]), target[1])), command
    for value in scope.values():
        if isinstance(value, AsyncOpenAI):  # made at module level: its connections belong to this loop
            await value.close()


def test_the_documented_tool_has_its_schema() -> None:
    """The guide's first tool gives a model its name, its description and the schema of its arguments."""
    first = blocks("server/docs/tools.md", "python")[0]
    scope: dict[str, Any] = {"__name__": "snippet"}
    execute(first._replace(text=first.text.partition("agent = ")[0]), scope)
    assert scope["book"].specification()["function"] == {
        "name": "book",
        "description": "Book seats on a flight.",
        "parameters": {
            "type": "object",
            "properties": {
                "flight": {"type": "string", "description": "The flight's number, such as LH 123."},
                "seats": {"type": "integer", "default": 1},
            },
            "required": ["flight"],
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize("page", GUIDES)
async def test_requests_of_curl_are_answered(page: str) -> None:
    """Each request that needs no id of a session gets a status below 400."""
    requests = [command for command in commands(page) if command.startswith("curl ") and "$" not in command]
    async with serving(echo, doors=DOORS) as server:
        for request in requests:
            answer = await curl(request, server)
            assert "/doors/" in page or "completed" in answer, request


async def curl(command: str, server: Serving) -> str:
    """Run a command of curl against a server and return its output."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command.replace("localhost:8000", f"127.0.0.1:{server.port}")), "--fail-with-body", "-s",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(2 * WAIT_S):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@cache
def help_of(*words: str) -> str:
    """Return the help text of a command of ours."""
    module = {"bargein": "bargein_client", "bargein-server": "bargein_server"}[words[0]]
    python_path = os.pathsep.join(map(str, (ROOT / "protocol", ROOT / "server", ROOT / "clients" / "python")))
    done = subprocess.run(
        [sys.executable, "-m", module, *words[1:], "--help"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": python_path},
    )  # fmt: skip
    return done.stdout


def check_command(command: str, files: set[str]) -> None:
    """Raise an `AssertionError` unless a command, its file and its options exist."""
    name, *arguments = shlex.split(command, comments=True)
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    name = name.removeprefix(".venv/bin/")
    if name in ("bargein", "bargein-server"):
        text = help_of(name, *(arguments[:1] if name == "bargein" else ()))
        if name == "bargein-server" and arguments[:1] == ["sessions"]:
            [work] = [word for word in arguments if word in ("list", "show", "export", "rename", "delete")]
            text = help_of(name, "sessions") + help_of(name, "sessions", work)
        assert [option for option in options if option not in text] == [], command
    elif name in ("python", "python3"):
        assert arguments[0] == "-m" or arguments[0] in files or (ROOT / arguments[0]).is_file(), command
        if (ROOT / arguments[0]).is_file():
            check_script(ROOT / arguments[0], options)
    elif name == "pip":
        known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
            "optional-dependencies"
        ]
        for extras in re.findall(r"\[([\w,]+)\]", command):
            assert set(extras.split(",")) <= known.keys(), command
    elif name.startswith(("scripts/", ".ci/")):
        assert os.access(ROOT / name, os.X_OK), command
    else:
        assert name in FREE | {"curl", "printf", "jq"}, command


def check_script(script: Path, options: list[str]) -> None:
    """Raise an `AssertionError` unless a script names all of these options."""
    folder = script.parent
    sources = [script, *folder.glob("loadgen/*.py"), *folder.glob("speed/*.py")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    assert [option for option in options if option not in text] == [], script


@pytest.mark.parametrize("page", [page for page in pages() if commands(page)])
def test_commands_exist(page: str) -> None:
    """A command of a console block is ours and takes its options, or is one of a few others."""
    files = {block.file for block in blocks(page, "python") if block.file} | {"hello.py"}
    for command in commands(page):
        for part in re.split(r" \| | > ", command):
            if "." not in part.split()[0] or "/" in part.split()[0]:
                check_command(part, files)


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    """A relative link names a file that exists, and a heading in it."""
    for path, anchor in links(page):
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), f"{page}: {path}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page}: {path}#{anchor}"


@pytest.mark.parametrize("page", [page for page in GUIDES if not page.endswith("settings.md")])
def test_options_and_settings_in_the_text_exist(page: str) -> None:
    """An option in running text is one of `bargein-server`, and a name that ends in `_s` is a setting."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    code = re.findall(r"`([^`\n]+)`", text)
    options = {option for part in code for option in re.findall(r"--[a-z-]+", part)} - {"--help", "--no-deps"}
    assert [option for option in sorted(options) if option not in help_of("bargein-server")] == []
    names = {part for part in code if re.fullmatch(r"[a-z_]+_s", part)}
    assert names - {"timeout_s", "start_s"} <= set(Settings.__struct_fields__)

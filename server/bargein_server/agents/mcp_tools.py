"""Tools of MCP servers, such as `tools=[mcp("npx -y some-server")]`.

The tools of a server are listed when the agent starts, and again when the server reports a change. Calls
are those of the tool loop: in parallel, bounded, cancelled by an interrupt, entered in the ledger.

A server that cannot be reached or that dies is a failed tool, never a failed turn. It is started again when
one of its tools is called next.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

try:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from mcp import MCPError
    from mcp import types as mcp_types
    from mcp.client.stdio import StdioServerParameters
except ImportError as error:
    raise ImportError(
        f'tools of MCP servers need {error.name}: pip install "bargein[mcp]"', name=error.name
    ) from None

from bargein_protocol import Data, Progress, RunsIn
from bargein_protocol.types import MAX_NAME_CHARS
from bargein_server.agent import Turn

from .mcp_connection import Connection, ServerLost
from .tools import TIMEOUT_S, Emit, OnInterrupt, Tool, ToolError

log: logging.Logger = logging.getLogger("bargein.tools")

START_S = 30.0
MAX_IMAGE_CHARS = 200_000
_MAX_UPDATES = 16
_LAUNCHER = re.compile(r"(npx|uvx|node|bunx?|deno|python[\d.]*|uv|docker)$")
_COMBINATORS = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "enum", "$schema", "$id")


class McpServer:
    """An MCP server as a source of tools; made by `mcp`.

    Attributes:
        name: Its name in the log.
        prefix: Prefix of tools whose name is taken.
        remote_tools: Tools that it has listed.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        only: Collection[str] | None = None,
        confirm: bool | Collection[str] = False,
        on_interrupt: OnInterrupt = "cancel",
        timeout_s: float = TIMEOUT_S,
        start_s: float = START_S,
    ) -> None:
        self._target = _target(target, env, cwd)
        self.name: str = name or _name_of(self._target)
        self.prefix: str = self.name
        self.remote_tools: list[McpTool] = []
        self._headers = dict(headers or {})
        self._only = only
        self._confirm = confirm
        self._on_interrupt: OnInterrupt = on_interrupt
        self._timeout_s = timeout_s
        self._start_s = start_s
        self._connection: Connection | None = None
        self._starting = asyncio.Lock()
        self._tried = False

    async def startup(self) -> None:
        """Start or reach the server, and list its tools; a failure is logged."""
        with suppress(ToolError):
            await self._connected()

    async def refresh(self) -> None:
        """Do `startup` if it was not done, as in an application without lifespan."""
        if not self._tried:
            await self.startup()

    async def shutdown(self) -> None:
        """Disconnect, and end the server's process."""
        if self._connection is not None:
            await self._connection.stop()

    async def call(self, name: str, arguments: dict[str, Any], emit: Emit) -> Any:
        """Call a tool by its name at the server, and return its result.

        Raises:
            ToolError: The tool reported an error, or the server cannot be reached or died.
        """
        connection = await self._connected()
        updates: asyncio.Queue[Progress | None] = asyncio.Queue()

        async def report(progress: float, total: float | None, message: str | None) -> None:
            if updates.qsize() < _MAX_UPDATES and math.isfinite(progress):
                bounded = total if total is not None and math.isfinite(total) else None
                label = message[:MAX_NAME_CHARS] if isinstance(message, str) else None
                updates.put_nowait(Progress(value=progress, total=bounded, label=label))

        calling = asyncio.create_task(connection.call(name, arguments, report))
        calling.add_done_callback(lambda _: updates.put_nowait(None))
        try:
            while (update := await updates.get()) is not None:
                await emit(update)
            return await _output(calling.result(), emit)
        except ServerLost:
            raise ToolError(
                "the server of this tool has ended; it is started again at the next call"
            ) from None
        except MCPError as error:
            raise ToolError(error.message) from None
        finally:
            if not calling.done():
                calling.cancel()
                await asyncio.wait({calling})

    async def _connected(self) -> Connection:
        """Return an open connection; start one if there is none."""
        async with self._starting:
            self._tried = True
            if self._connection is not None and self._connection.open:
                return self._connection
            if self._connection is not None:
                await self._connection.stop()
            connection = Connection(self._target, self._headers, self._listed)
            try:
                await connection.start(self._start_s)
            except Exception as error:
                cause = _cause(error, self._start_s, self._target)
                log.warning("MCP server %s cannot be reached: %s", self.name, cause)
                raise ToolError(f"the MCP server {self.name} cannot be reached") from None
            self._connection = connection
            return connection

    def _listed(self, tools: list[mcp_types.Tool]) -> None:
        wanted = [tool for tool in tools if self._only is None or tool.name in self._only]
        self.remote_tools = [
            McpTool(
                self, tool, tool.name,
                confirm=self._confirm if isinstance(self._confirm, bool) else tool.name in self._confirm,
                on_interrupt=self._on_interrupt, timeout_s=self._timeout_s,
            )
            for tool in wanted
        ]  # fmt: skip
        if self._only is not None and (missing := set(self._only) - {tool.name for tool in tools}):
            log.warning("MCP server %s has no tool %s", self.name, ", ".join(sorted(missing)))


class McpTool(Tool):
    """Tool of an MCP server. The server checks the arguments."""

    def __init__(
        self,
        server: McpServer,
        remote: mcp_types.Tool,
        name: str,
        *,
        confirm: bool,
        on_interrupt: OnInterrupt,
        timeout_s: float,
    ) -> None:
        self.name: str = name
        self.description: str = remote.description or ""
        self.parameters: dict[str, Any] = _schema(remote.input_schema, remote.name)
        self.confirm: bool = confirm
        self.on_interrupt: OnInterrupt = on_interrupt
        self.timeout_s: float = timeout_s
        self.runs_in: RunsIn = "server"
        self.threaded: bool = False
        self._server = server
        self._remote = remote

    @property
    def remote_name(self) -> str:
        """Name at the server."""
        return self._remote.name

    def named(self, name: str) -> Tool:
        """Return the tool under a name for the model."""
        tool = copy(self)
        tool.name = name
        return tool

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as they are."""
        return arguments

    def unknown(self, arguments: dict[str, Any]) -> list[str]:
        """Return none: the server decides."""
        return []

    def bind(self, arguments: dict[str, Any], turn: Turn) -> partial[Any]:
        """Return the call, ready to be made."""
        return partial(self._server.call, self.remote_name, arguments)

    async def run(self, function: partial[Any], emit: Emit) -> Any:
        """Make the call and return its result."""
        return await function(emit)


def mcp(
    target: str | Sequence[str],
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    headers: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    confirm: bool | Collection[str] = False,
    on_interrupt: OnInterrupt = "cancel",
    timeout_s: float = TIMEOUT_S,
    start_s: float = START_S,
) -> McpServer:
    """Return the tools of an MCP server, for `tools=` of an agent.

    Args:
        target: URL of a server (streamable HTTP), or a command that is one (stdio), as a line or as words.
        name: Name in the log, and prefix of tools whose name is taken; the command or host if None.
        env: Further environment variables of the command, which gets only a few of ours.
        cwd: Folder of the command.
        headers: Headers of HTTP requests, such as `Authorization`.
        only: Names of the tools to offer; None for all.
        confirm: Whether the client must allow each call, or the names of the tools for which it must.
        on_interrupt: `cancel` a running call, or let it `finish` in the background.
        timeout_s: Seconds after which a call has failed.
        start_s: Seconds that the server has to start and to list its tools.

    Raises:
        ValueError: `target` is neither a command nor an `http` or `https` URL.
    """
    return McpServer(
        target, name=name, env=env, cwd=cwd, headers=headers, only=only, confirm=confirm,
        on_interrupt=on_interrupt, timeout_s=timeout_s, start_s=start_s,
    )  # fmt: skip


def _target(
    target: str | Sequence[str], env: Mapping[str, str] | None, cwd: str | Path | None
) -> StdioServerParameters | str:
    if isinstance(target, str) and target.startswith(("http://", "https://")):
        return target
    words = shlex.split(target) if isinstance(target, str) else list(target)
    if not words or "://" in words[0]:
        raise ValueError(f"expected a command or an http URL of an MCP server, got {target!r}")
    return StdioServerParameters(
        command=words[0], args=words[1:], env=dict(env or {}), cwd=cwd,
        encoding_error_handler="replace",  # one bad byte in a line of a log would end the connection
    )  # fmt: skip


def _name_of(target: StdioServerParameters | str) -> str:
    if isinstance(target, str):
        return target.partition("://")[2].partition("/")[0].rpartition("@")[2]
    plain = [word for word in target.args if not word.startswith("-")]
    command = Path(target.command).stem
    # Of `npx -y @scope/server-files /tmp`, the name is server-files.
    return Path(plain[0]).stem if plain and _LAUNCHER.match(command) else command


def _schema(schema: Any, name: str) -> dict[str, Any]:
    """Return a tool's schema in a form that model APIs accept.

    One bad schema makes a model API refuse every request, so an invalid one is replaced by one that takes
    any object. Combinators at the top are left out: the server checks the arguments anyway.
    """
    open_schema = {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        return open_schema
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        log.warning("the schema of the MCP tool %s is invalid: %s", name, error.message)
        return open_schema
    kept = {key: value for key, value in schema.items() if key not in _COMBINATORS}
    return {**open_schema, **kept, "type": "object"}


async def _output(result: mcp_types.CallToolResult, emit: Emit) -> Any:
    """Return a result as JSON; images go to the client."""
    texts = [block.text for block in result.content if isinstance(block, mcp_types.TextContent)]
    if result.is_error:
        raise ToolError("\n".join(texts) or "the tool failed")
    for block in result.content:
        if isinstance(block, mcp_types.ImageContent) and len(block.data) <= MAX_IMAGE_CHARS:
            await emit(Data(name="image", value={"mime_type": block.mime_type, "data": block.data}))
    only_text = len(texts) == len(result.content)
    if result.structured_content is not None and only_text:
        return result.structured_content
    if only_text:
        return "\n".join(texts)
    return [_block(block) for block in result.content]


def _block(block: mcp_types.ContentBlock) -> dict[str, Any]:
    """Return a block of a result for the model; bytes as kind and size."""
    if isinstance(block, mcp_types.TextContent):
        return {"type": "text", "text": block.text}
    if isinstance(block, (mcp_types.ImageContent, mcp_types.AudioContent)):
        return {"type": block.type, "mime_type": block.mime_type, "bytes": len(block.data) * 3 // 4}
    if isinstance(block, mcp_types.ResourceLink):
        link = {"uri": str(block.uri), "name": block.name, "description": block.description}
        return {"type": "resource_link", **{key: value for key, value in link.items() if value}}
    resource = block.resource
    whole: dict[str, Any] = {"type": "resource", "uri": str(resource.uri), "mime_type": resource.mime_type}
    if isinstance(resource, mcp_types.TextResourceContents):
        return {**whole, "text": resource.text}
    return {**whole, "bytes": len(resource.blob) * 3 // 4}


def _cause(error: BaseException, start_s: float, target: StdioServerParameters | str) -> str:
    """Return the cause and the remedy of a failed start in a few words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        command = target if isinstance(target, str) else target.command
        # uvloop leaves the name out.
        return f"there is no command {error.filename or command!r}: install it, or give its path"
    if isinstance(error, TimeoutError):
        return f"it did not list its tools within {start_s:g} s: run the command by hand, or raise start_s"
    if isinstance(error, ValueError):  # Pydantic's, whose text quotes the server
        return "its answers do not follow the protocol: update the server, or report it to its authors"
    if isinstance(error, (ServerLost, MCPError)):
        return f"{error.args[-1] or 'it ended'}: run the command by hand to see why"
    return f"{type(error).__name__}: check the address and the headers"

"""Connection to an MCP server, in a task of its own.

The package `mcp` works with task groups and cancel scopes, which the task that enters them must leave. So one
task enters and leaves a connection, and each call has a task of its own, outside the context of any turn: the
end of a turn cancels the call, and the notification of that to the server still gets out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import ProgressFnT
from mcp.types import (
    CONNECTION_CLOSED,
    CallToolResult,
    Implementation,
    ServerNotification,
    Tool,
    ToolListChangedNotification,
)

MAX_PAGES = 100
TIMEOUT = httpx2.Timeout(30.0, read=300.0)
_CANCEL_S = 1.0
_CLOSED = ("Connection closed", "SSE stream")


class ServerLost(Exception):
    """The connection has ended; a call that was on its way may have run."""


class Connection:
    """One connection to an MCP server.

    Args:
        target: Command and its environment, or the URL of a server.
        headers: Headers of HTTP requests.
        listed: Called with the tools, first when they are known, then whenever they change.

    Attributes:
        open: Whether calls can be sent.
    """

    def __init__(
        self,
        target: StdioServerParameters | str,
        headers: dict[str, str],
        listed: Callable[[list[Tool]], None],
    ) -> None:
        self.open: bool = False
        self._target = target
        self._headers = headers
        self._listed = listed
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stop = False
        self._changed = False

    async def start(self, timeout_s: float) -> None:
        """Connect and list the tools.

        Cancelling it is safe: the connection is taken down.

        Raises:
            Exception: The server cannot be started or reached, or is none; `TimeoutError` after the time.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(ready), name="MCP server", context=Context())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(ready)
        except BaseException:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=timeout_s)
            raise

    async def stop(self) -> None:
        """Disconnect, and end the server's process."""
        self._stop, self.open = True, False
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def call(self, name: str, arguments: dict[str, Any], progress: ProgressFnT) -> CallToolResult:
        """Call a tool. Cancelling it cancels the call at the server.

        Raises:
            ServerLost: The connection ended before the result.
            MCPError: The server refused the call.
        """
        client = self._client
        if client is None or not self.open:
            raise ServerLost("the server is not connected")
        sending = asyncio.create_task(
            client.call_tool(name, arguments, progress_callback=progress), context=Context()
        )
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            if not sending.cancel():
                raise
            await asyncio.wait({sending}, timeout=_CANCEL_S)  # the server is notified now
            raise
        except MCPError as error:
            if _is_lost(error):
                self._lost()
                raise ServerLost(error.message) from error
            raise

    def _lost(self) -> None:
        self.open = False
        self._wake.set()

    async def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            async with Client(
                self._transport(),
                message_handler=self._on_message,
                client_info=Implementation(name="bargein", version="1"),
                cache=None,
            ) as client:
                self._client = client
                await self._list(client)
                self.open = True
                ready.set_result(None)
                following = asyncio.create_task(self._follow(client))
                try:
                    await self._serve(client)
                finally:
                    following.cancel()
                    await asyncio.wait({following})
        except (asyncio.CancelledError, Exception) as error:
            # What ends a connection is reported to those who wait for it; later callers find it not open.
            if not ready.done():
                ready.set_exception(
                    ServerLost("cancelled") if isinstance(error, asyncio.CancelledError) else error
                )
                ready.exception()
        finally:
            self.open, self._client = False, None

    async def _serve(self, client: Client) -> None:
        while not self._stop and self.open:
            await self._wake.wait()
            self._wake.clear()
            if self._changed:
                self._changed = False
                await self._list(client)

    async def _follow(self, client: Client) -> None:
        """Follow changes of the list at servers that need a subscription for it."""
        tools = client.server_capabilities.tools
        if client.protocol_version < "2026" or tools is None or not tools.list_changed:
            return
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._changed = True
                    self._wake.set()
        except (MCPError, RuntimeError, TimeoutError):
            return  # the server does not report changes, or not any more

    async def _on_message(self, message: ServerNotification | Exception) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._changed = True
            self._wake.set()

    async def _list(self, client: Client) -> None:
        tools: dict[str, Tool] = {}
        cursors: set[str] = set()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools |= {tool.name: tool for tool in page.tools if tool.name not in tools}
            cursor = page.next_cursor
            if not cursor or cursor in cursors:  # a server may repeat its pages for ever
                break
            cursors.add(cursor)
        self._listed(list(tools.values()))

    @asynccontextmanager
    async def _transport(self) -> Any:
        if isinstance(self._target, str):
            async with (
                httpx2.AsyncClient(headers=self._headers, timeout=TIMEOUT) as http_client,
                streamable_http_client(self._target, http_client=http_client) as (read, write),
            ):
                yield _Watched(read, lambda: None), write
        else:
            async with stdio_client(self._target) as (read, write):
                yield _Watched(read, self._lost), write


def _is_lost(error: MCPError) -> bool:
    """Return whether an error stands for the end of the connection.

    Servers use the same code for errors of their own, so the message of the package `mcp` counts.
    """
    closed = error.code == CONNECTION_CLOSED and error.message.startswith(_CLOSED)
    return closed or error.message == "Session terminated"


class _Watched:
    """Stream of a server's messages: reports its end, repairs lists."""

    def __init__(self, inner: Any, ended: Callable[[], None]) -> None:
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._inner.__aexit__(*error)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        try:
            message = await self._inner.__anext__()
        except BaseException:
            self._ended()
            raise
        result = getattr(getattr(message, "message", None), "result", None)
        if isinstance(result, dict) and isinstance(result.get("tools"), list):
            result["tools"] = _valid_tools(result["tools"])
        return message


def _valid_tools(tools: list[Any]) -> list[dict[str, Any]]:
    """Return the tools of a list in a form that `mcp` accepts.

    It refuses a whole list for one tool, such as one whose schema has no type.
    """
    named = [tool for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    valid = []
    for tool in named:
        description = tool.get("description")
        least = {"name": tool["name"], "description": description if isinstance(description, str) else ""}
        given = {**tool, "inputSchema": _object_schema(tool.get("inputSchema"))}
        output = given.get("outputSchema")
        if output is not None and output != _object_schema(output):
            del given["outputSchema"]
        try:
            Tool.model_validate(given, by_name=False)
        except ValueError:
            given = {**least, "inputSchema": given["inputSchema"]}
        valid.append(given)
    return valid


def _object_schema(schema: Any) -> dict[str, Any]:
    """Return a schema of an object, which is open if the given one is none."""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return {"type": "object"}
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return {"type": "object"}
    return {**schema, "type": "object"}

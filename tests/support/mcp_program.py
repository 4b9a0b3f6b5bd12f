"""A real MCP server for tests: `python mcp_program.py LOG [PORT]`, on stdio or on streamable HTTP.

Each line of the file LOG is something that happened in it, such as `began wait` or `cancelled wait`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.types import EmbeddedResource, ResourceLink, TextContent, TextResourceContents

LOG = Path(sys.argv[1])
server = MCPServer("tests")


def note(line: str) -> None:
    """Write a line to the log."""
    with LOG.open("a") as file:
        file.write(line + "\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(structured_output=False)
def pid() -> str:
    """Return the number of the process."""
    return str(os.getpid())


@server.tool(structured_output=False)
async def wait(context: Context[Any, Any]) -> str:
    """Report progress, and wait for ever."""
    note("began wait")
    try:
        await context.report_progress(1, 3, "first third")
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        note("cancelled wait")
        raise
    return "never"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("the disk is full")


@server.tool()
def die() -> str:
    """End the process."""
    note("died")
    os._exit(1)


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """Return a picture with a caption."""
    return [TextContent(text="a dot"), Image(data=b"\x89PNG dot", format="png")]


@server.tool(structured_output=False)
def book() -> list[Any]:
    """Return a resource and a link."""
    page = TextResourceContents(uri="book://1", mime_type="text/plain", text="Call me Ishmael.")
    return [EmbeddedResource(resource=page), ResourceLink(uri="book://2", name="page 2")]


@server.tool(name="files.read all")
def odd_name() -> str:
    """Have a name that no model API accepts."""
    return "read"


@server.tool()
async def grow(context: Context[Any, Any]) -> str:
    """Add a tool."""
    server.add_tool(late, name="late")
    await context.notify_tools_changed()
    if context.request_context.protocol_version < "2026":
        await context.session.send_tool_list_changed()
    return "grown"


def late() -> str:
    """Be there from now on."""
    return "better late than never"


@server.tool()
def bad(value: str) -> str:
    """Have a schema that no model API accepts."""
    return value


server._tool_manager._tools["bad"].parameters = {"type": "object", "properties": {"value": {"type": "wrong"}}}


def terminate(*_: object) -> None:
    """End on SIGTERM."""
    note("terminated")
    os._exit(0)


if __name__ == "__main__":
    note(f"pid {os.getpid()}")
    if "--stubborn" in sys.argv:  # ignores the end of its input
        signal.signal(signal.SIGTERM, terminate)
    try:
        if len(sys.argv) > 2 and sys.argv[2].isdecimal():
            server.run("streamable-http", port=int(sys.argv[2]))
        else:
            server.run("stdio")
    finally:
        note("ended")
        if "--stubborn" in sys.argv:
            signal.pause()

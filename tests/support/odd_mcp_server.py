"""MCP server on stdio that does what a proper one does not: `python odd_mcp_server.py HOW`.

HOW is `junk` (lines of a log on stdout, some of them no UTF-8), `pages` (a list without an end), `errors`
(calls fail with the code that also stands for a closed connection), `tools` (tools that break the protocol
beside one that does not) or `invalid` (no list at all).
"""

from __future__ import annotations

import json
import sys
from typing import Any

HOW = sys.argv[1]
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
ODD_TOOLS = [
    {"nome": 5},
    "echo",
    {"name": "none"},
    {"name": "untyped", "inputSchema": {"properties": {"x": {"type": "string"}}}},
    {"name": "array", "inputSchema": {"type": "array"}},
    {"name": "null", "inputSchema": {"type": "object", "properties": None}, "description": 5, "title": 5},
    {"name": "output", "inputSchema": {"type": "object"}, "outputSchema": {"type": "string"}},
]


def send(message: dict[str, Any]) -> None:
    """Write a message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the result or the error of a request."""
    if method == "initialize":
        return {
            "result": {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "odd", "version": "1"},
            }
        }
    if method == "tools/list":
        more = {"nextCursor": "again"} if HOW == "pages" else {}
        tools = {"invalid": "none", "tools": [*ODD_TOOLS, TOOL]}.get(HOW, [TOOL])
        return {"result": {"tools": tools, **more}}
    if method == "tools/call" and HOW == "errors":
        return {"error": {"code": -32000, "message": "the disk is full"}}
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": "ok"}]}}
    return {"error": {"code": -32601, "message": "Method not found"}}


def main() -> None:
    """Answer requests until the end of the input."""
    if HOW == "junk":
        sys.stdout.buffer.write(b"Starting \xff\xfe ...\n{oops\n[]\nnull\n\n")
        sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            send({"id": request["id"], **answer(request["method"], request.get("params") or {})})


if __name__ == "__main__":
    main()

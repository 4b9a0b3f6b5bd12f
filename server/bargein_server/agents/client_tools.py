"""Tools and instructions of a client: metadata `tools`, `instructions`.

The metadata of the input counts before that of the session. A tool runs in the client, which answers its
`tool.running` with `tool.output`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bargein_protocol import RunsIn
from bargein_server.agent import Turn

from .tools import TIMEOUT_S, Emit, OnInterrupt, Tool

MAX_TOOLS = 128
"""Further tools of a client are left out; model APIs accept no more."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


class ClientTool(Tool):
    """Tool that a client has described; the client checks the arguments.

    Args:
        name: Its name for the model.
        description: Its description for the model.
        parameters: JSON schema of its arguments.
    """

    def __init__(self, name: str, description: str, parameters: dict[str, Any]) -> None:
        self.name: str = name
        self.description: str = description
        self.parameters: dict[str, Any] = parameters
        self.on_interrupt: OnInterrupt = "cancel"
        self.timeout_s: float = TIMEOUT_S
        self.confirm: bool = False
        self.runs_in: RunsIn = "client"
        self.threaded: bool = False

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as they are."""
        return arguments

    def unknown(self, arguments: dict[str, Any]) -> list[str]:
        """Return none: the client decides."""
        return []

    def bind(self, arguments: dict[str, Any], turn: Turn) -> partial[Any]:
        """Refuse: the server does not have the function."""
        raise NotImplementedError("the tool runs in the client")

    async def run(self, function: partial[Any], emit: Emit) -> Any:
        """Refuse: the server does not have the function."""
        raise NotImplementedError("the tool runs in the client")


def client_tools(turn: Turn) -> dict[str, Tool]:
    """Return the tools that the client of a turn has described, by name.

    Each is described as by OpenAI's APIs: `name`, `description` and `parameters`, at the top or within
    `function`. An entry of another shape is left out.
    """
    given = _metadata(turn, "tools")
    if not isinstance(given, list):
        return {}
    return {tool.name: tool for tool in _tools(given[:MAX_TOOLS])}


def client_instructions(turn: Turn) -> str | None:
    """Return the instructions of the client of a turn; None without any."""
    given = _metadata(turn, "instructions")
    return given if isinstance(given, str) and given.strip() else None


def _metadata(turn: Turn, name: str) -> Any:
    for metadata in (turn.input.metadata or {}, turn.session.metadata):
        if metadata.get(name) is not None:
            return metadata[name]
    return None


def _tools(given: list[Any]) -> Iterator[Tool]:
    for entry in given:
        described = entry.get("function", entry) if isinstance(entry, Mapping) else None
        if not isinstance(described, Mapping):
            continue
        name, parameters = described.get("name"), described.get("parameters")
        if isinstance(name, str) and _NAME.fullmatch(name):
            yield ClientTool(
                name,
                str(described.get("description") or ""),
                dict(parameters) if isinstance(parameters, Mapping) else _NO_PARAMETERS,
            )

"""Tools of an agent: its own, and those of changing sources such as MCP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from .tools import Tool, toolset

_ODD = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME = 64


class RemoteTool(Protocol):
    """Tool of a source; the model may call it by another name."""

    @property
    def remote_name(self) -> str:
        """Name at the source, which may be none that a model API accepts."""
        ...

    def named(self, name: str) -> Tool:
        """Return the tool under a name for the model."""
        ...


@runtime_checkable
class ToolSource(Protocol):
    """Provider of tools that are known at run time."""

    @property
    def prefix(self) -> str:
        """Prefix of tools whose name is taken already."""
        ...

    @property
    def remote_tools(self) -> Collection[RemoteTool]:
        """Tools at present; a new list when they change."""
        ...

    async def startup(self) -> None:
        """Connect; failures are logged and not raised."""
        ...

    async def refresh(self) -> None:
        """Connect if the tools are not known yet."""
        ...

    async def shutdown(self) -> None:
        """Disconnect, and leave nothing behind."""
        ...


class Toolset(Mapping[str, Tool]):
    """Tools by name; those of sources get distinct names that APIs accept.

    The agent's own tools keep their names. A tool of a source whose name is taken gets the source's prefix,
    and a number if that is taken too.

    Args:
        given: Functions, tools and sources.

    Raises:
        NotATool: Two of the agent's own have the same name, or one cannot be described to a model.
    """

    def __init__(self, given: Iterable[Tool | Callable[..., Any] | ToolSource]) -> None:
        every = list(given)
        # A tool is a callable, and never a source.
        self._sources = [item for item in every if isinstance(item, ToolSource)]
        self._own = toolset(item for item in every if not isinstance(item, ToolSource))
        self._merged: dict[str, Tool] = self._own
        self._of: list[Collection[RemoteTool]] = []

    def add(self, tool: Tool) -> None:
        """Add one of the agent's own tools."""
        self._own[tool.name] = tool
        self._of = []

    def __getitem__(self, name: str) -> Tool:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def _current(self) -> dict[str, Tool]:
        if not self._sources:
            return self._own
        lists = [source.remote_tools for source in self._sources]
        if len(lists) != len(self._of) or any(a is not b for a, b in zip(lists, self._of, strict=True)):
            self._of, self._merged = lists, dict(self._own)
            for source in self._sources:
                for remote in source.remote_tools:
                    name = self._free_name(remote.remote_name, source.prefix)
                    self._merged[name] = remote.named(name)
        return self._merged

    def _free_name(self, wanted: str, prefix: str) -> str:
        name = _legal(wanted)
        if name in self._merged:
            name = _legal(f"{prefix}_{wanted}")
        number = 2
        while name in self._merged:
            suffix = f"_{number}"
            name = _legal(f"{prefix}_{wanted}")[: _MAX_NAME - len(suffix)] + suffix
            number += 1
        return name

    async def startup(self) -> None:
        """Connect all sources, at the same time."""
        await asyncio.gather(*(source.startup() for source in self._sources))

    async def refresh(self) -> None:
        """Connect the sources whose tools are not known yet."""
        if self._sources:
            await asyncio.gather(*(source.refresh() for source in self._sources))

    async def shutdown(self) -> None:
        """Disconnect all sources, at the same time."""
        await asyncio.gather(*(source.shutdown() for source in self._sources))


_JUNK = re.compile(r"<\|.*|:\d+$|[\s\"'`(){}]+")
"""Parts that models add to names: tokens of their format, the number of the call, punctuation."""


def find_name(written: str, tools: Collection[str]) -> str | None:
    """Return the tool that a model means by a name; None if there is none.

    Models and their servers add a namespace or a number, such as `functions.add:0`, or tokens of their
    format, and change case and separators.
    """
    if written in tools:
        return written
    bare = _JUNK.sub("", written).rstrip(".:/")
    for name in (bare, re.split(r"[.:/]+", bare)[-1]):
        if name in tools:
            return name
        alike = [tool for tool in tools if _folded(tool) == _folded(name)]
        if name and len(alike) == 1:
            return alike[0]
    return None


def _folded(name: str) -> str:
    return _ODD.sub("_", name).replace("-", "_").casefold()


def _legal(name: str) -> str:
    return _ODD.sub("_", name)[:_MAX_NAME] or "tool"

"""Agents that do what an input's text asks for: `kind name`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import bargein_protocol as bp
from bargein_server import Output, Turn

if TYPE_CHECKING:
    from .node import SimulatedNode
    from .world import ClusterWorld

KINDS = ("short", "short", "long", "long", "gush", "think", "tool", "tools", "fail")


class Agents:
    """The agent of all nodes.

    Attributes:
        effects: Tools that have taken effect, by the name of their input.
    """

    def __init__(self, world: ClusterWorld) -> None:
        self.effects: dict[str, int] = {}
        self._world = world

    async def answer(self, turn: Turn, node: SimulatedNode) -> AsyncIterator[Output]:
        """Answer as the input asks."""
        kind, _, name = turn.text.partition(" ")
        chance = self._world.chance_of(f"{turn.text}")
        if kind == "history":
            yield json.dumps(turn.history.messages()[:-1])
        elif kind in ("tool", "tools"):
            for number in range(1 if kind == "tool" else 3):
                async for output in self._use(turn, node, f"{name}.{number}"):
                    yield output
        elif kind == "think":
            await asyncio.sleep(chance.random() * 3)
            yield f"thought about {name}"
        elif kind == "fail":
            yield f"{name} fails"
            await asyncio.sleep(chance.random() * 0.2)
            raise ValueError("as asked")
        elif kind == "gush":
            for number in range(chance.choice([100, 500, 2000])):
                yield f"{name}.{number} "
                if not number % 10:
                    await asyncio.sleep(0.02)
        else:
            for number in range(2 if kind == "short" else chance.randint(20, 80)):
                yield f"{name}.{number} "
                await asyncio.sleep(chance.choice([0.0, 0.02, 0.02, 0.05]))

    async def _use(self, turn: Turn, node: SimulatedNode, name: str) -> AsyncIterator[Output]:
        call_id = turn.tools.claim()
        yield bp.ToolCall(call_id=call_id, name="pay")
        await turn.tools.begin(call_id, "pay", {"for": name})
        if node.over:
            raise asyncio.CancelledError  # it runs only to be buried
        self.effects[name] = self.effects.get(name, 0) + 1
        once = self.effects[name] == 1 or self._world.at_risk(turn.session.id)
        self._world.expect(once, f"the tool of {name} ran twice")
        await asyncio.sleep(0.01)
        turn.tools.settle(bp.ToolResult(call_id=call_id, status="completed", output=f"paid {name}"))
        yield f"done with {name} "

"""Typeahead: each keystroke is an input, and cuts the answer before it.

    bargein-server bargein_server.examples.typeahead:agent

It completes names of Python's standard library. The suggestions come at once; after a pause in the typing
comes the description of the best one. Nothing here cancels a search or a timer: the next input does. The
guide has a client that types. No model is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from bargein_server.agent import Output, Turn

from .library import library

PAUSE_S = 0.3
"""Pause in the typing after which the best suggestion is described."""

NEW_WORD_S = 3.0
"""Pause after which the count of inputs begins again."""


async def agent(turn: Turn) -> AsyncGenerator[Output, None]:
    """Complete the letters typed so far."""
    rate = _rate(turn)
    yield turn.data("rate", rate)
    if not turn.session.state.get("ready"):
        yield turn.status("Reading the standard library", "eye")
    names = await turn.tools.run_in_thread(library)
    turn.session.state["ready"] = True
    found = names.complete(turn.text)
    yield turn.data("completions", [entry.name for entry in found])
    yield turn.status(f"Input {rate['inputs']}, {rate['per_second']} a second", "pencil")
    if not found:
        yield f"No name of the standard library contains `{turn.text[:60].strip()}`."
        return
    yield "\n".join(f"- `{entry.name}` {entry.summary[:90]}".rstrip() for entry in found)
    await asyncio.sleep(PAUSE_S)
    best = found[0]
    yield f"\n\n**{best.name}** is a {best.kind}.\n\n"
    for paragraph in (best.text or "It has no description.").split("\n\n")[:4]:
        yield paragraph + "\n\n"
        await asyncio.sleep(0)
    yield f"*Inputs: {rate['inputs']}, {rate['per_second']} a second.*"
    yield turn.data("suggestions", [entry.name for entry in found[1:5]])


def _rate(turn: Turn) -> dict[str, Any]:
    """Count this input; return the number since the last pause and the rate."""
    now = asyncio.get_running_loop().time()
    times: list[float] = turn.session.state.setdefault("times", [])
    if times and now - times[-1] > NEW_WORD_S:
        times.clear()
    times.append(now)
    del times[:-1000]
    span_s = now - times[0]
    return {"inputs": len(times), "per_second": round((len(times) - 1) / span_s, 1) if span_s else 0.0}

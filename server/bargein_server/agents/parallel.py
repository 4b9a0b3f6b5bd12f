"""Independent agents of one turn, side by side, and what came of them for a merging step.

    async def planner(turn: Turn) -> AsyncIterator[Output]:
        team = SideBySide(turn, {"flights": find_flights, "hotels": find_hotels}, on_error="skip")
        async for output in team.outputs():
            yield output
        yield merge(team["flights"].text, team["hotels"].text)

All of them begin before any of them goes on, and what they yield streams at the same time, each event
with the agent's name as its `source`. An interrupt ends all of them in one step. Each generator is
owned by one task for its whole life.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from bargein_protocol import Data, TextDelta
from bargein_server.agent import Agent, Output, Turn

from .output_mux import OutputMux

log = logging.getLogger("bargein.parallel")

OnError = Literal["fail", "skip"]


class Branch:
    """One of the agents, and what it said.

    Attributes:
        text: Its own text, without that of a team of its own.
        data: The last value of each of its own `Data` events.
        error: Why it failed; None when it did not. Its text until then is kept.
        done: Whether it came to its end.
    """

    def __init__(self, source: str) -> None:
        self.text = ""
        self.data: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.done = False
        self._source = source

    def note(self, output: Output) -> None:
        """Add what it said."""
        if not isinstance(output, (TextDelta, Data)) or output.source != self._source:
            return
        if isinstance(output, TextDelta):
            self.text += output.text
        else:
            self.data[output.name] = output.value


class Parallel:
    """See the module.

    Args:
        turn: The turn.
        agents: By the name that is their `source`.
        on_error: `fail`: the first one that fails ends the others, and its error is raised. `skip`: the
            others go on, and its `Branch` says what went wrong.
    """

    def __init__(self, turn: Turn, agents: Mapping[str, Agent], on_error: OnError = "fail") -> None:
        self._turn = turn
        self._agents = agents
        self._on_error = on_error
        self._mux = OutputMux(turn)
        self._branches = {source: Branch(source) for source in agents}

    def __getitem__(self, source: str) -> Branch:
        """Return what came of an agent."""
        return self._branches[source]

    @property
    def branches(self) -> Mapping[str, Branch]:
        """What came of all of them, by name."""
        return self._branches

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Yield what the agents yield, as it comes, until the last one has ended.

        Raises:
            Exception: What an agent raised, when `on_error` is `fail`.
        """
        for source, agent in self._agents.items():
            self._mux.start(self._run(self._turn.speaking_as(source), agent))
        async with aclosing(self._mux.outputs()) as outputs:
            async for output in outputs:
                yield output

    async def _run(self, turn: Turn, agent: Agent) -> None:
        branch = self._branches[turn.source]
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": turn.source}
        span = turn.span(f"invoke_agent {turn.source}", attributes)
        try:
            with span.current():  # this task is the branch's own
                await self._pull(turn, agent, branch)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._on_error == "fail" or turn.reason is not None or (task and task.cancelling()):
                raise
            branch.error = error  # it cancelled itself
        except Exception as error:
            # The boundary to the author's code, when its policy is to go on without a branch.
            branch.error = error
            span.fail(type(error).__name__)
            if self._on_error == "fail":
                raise
            log.warning("%s failed in turn %s and is left out", turn.source, turn.id, exc_info=error)
        else:
            branch.done = True
        finally:
            span.end()

    async def _pull(self, turn: Turn, agent: Agent, branch: Branch) -> None:
        generator = agent(turn)
        if not isinstance(generator, AsyncGenerator):
            raise TypeError(f"expected {turn.source} to be an async generator")
        async with aclosing(generator):
            step = anext(generator)
            while True:
                try:
                    output = await step
                except StopAsyncIteration:
                    return
                voiced = turn.voiced(output)
                branch.note(voiced)
                try:
                    await self._mux.put(voiced)
                except asyncio.CancelledError as error:
                    # It stands at its `yield`: the cancel is thrown into it, as into any agent.
                    step = generator.athrow(error)
                else:
                    step = anext(generator)

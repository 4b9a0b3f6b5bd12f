"""Independent agents of one turn in parallel, with results to merge.

    async def planner(turn: Turn) -> AsyncIterator[Output]:
        team = Parallel(turn, {"flights": find_flights, "hotels": find_hotels}, on_error="skip")
        async for output in team.outputs():
            yield output
        yield merge(team["flights"].text, team["hotels"].text)

All agents take their first step before any takes its second. Their outputs stream at the same time, each
event with the agent's name as its `source`: the lane that clients show it in. An interrupt ends all agents
in one step. Each generator is owned by one task for its whole life.
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
    """Result of one of the agents.

    Attributes:
        text: Its own text, without the text of agents that it runs in turn.
        data: Last value of each of its own `Data` events, by name.
        error: The exception that ended it, if any; the text before it is kept.
        done: Whether it ran to completion.
    """

    def __init__(self, source: str) -> None:
        self.text = ""
        self.data: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.done = False
        self._source = source

    def note(self, output: Output) -> None:
        """Add an output of the agent."""
        if not isinstance(output, (TextDelta, Data)) or output.source != self._source:
            return
        if isinstance(output, TextDelta):
            self.text += output.text
        else:
            self.data[output.name] = output.value


class Parallel:
    """Parallel run of independent agents in one turn.

    Yield from `outputs`, then read the branches.

    Args:
        turn: The turn.
        agents: The agents, by the name that becomes their `source`.
        on_error: `fail`: the first failure ends the other agents and is raised. `skip`: the others
            continue, and the agent's `Branch` carries the error.
    """

    def __init__(self, turn: Turn, agents: Mapping[str, Agent], on_error: OnError = "fail") -> None:
        self._turn = turn
        self._agents = agents
        self._on_error = on_error
        self._mux = OutputMux(turn)
        self._branches = {source: Branch(source) for source in agents}

    def __getitem__(self, source: str) -> Branch:
        """Return the result of an agent."""
        return self._branches[source]

    @property
    def branches(self) -> Mapping[str, Branch]:
        """Results of all agents, by name."""
        return self._branches

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Yield the outputs of all agents as they arrive, until all have ended.

        Raises:
            Exception: An agent's error, if `on_error` is `fail`.
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
            with span.current():  # this task belongs to the branch alone
                await self._pull(turn, agent, branch)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._on_error == "fail" or turn.reason is not None or (task and task.cancelling()):
                raise
            branch.error = error  # it cancelled itself
        except Exception as error:
            # The boundary to the author's code, whose policy may be to continue without a branch.
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
                labelled = turn.voiced(output)
                branch.note(labelled)
                try:
                    await self._mux.put(labelled)
                except asyncio.CancelledError as error:
                    # The agent stands at its `yield`: throw the cancel into it, as the runner does.
                    step = generator.athrow(error)
                else:
                    step = anext(generator)

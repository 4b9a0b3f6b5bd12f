"""Independent agents of one turn in parallel, with results to merge.

    async def planner(turn: Turn) -> AsyncIterator[Output]:
        team = Parallel(turn, {"flights": find_flights, "hotels": find_hotels}, on_error="skip")
        async for output in team.outputs():
            yield output
        yield merge(team["flights"].text, team["hotels"].text)

All agents take their first step before any takes its second. Their outputs stream at the same time, each
event with the agent's name as its `source`: the lane that clients show it in. An interrupt ends all agents
in one step. Each generator is owned by one task for its whole life.


A generator may not hold a task group open across a `yield`, because the group's cancel would reach the
consumer. So the tasks put their outputs into the short queue of an `OutputMux`. The generator that owns it
yields from the queue and ends the tasks when it ends. The tasks belong to the turn, which cancels all of
them in the step of the fence, wherever the generator stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Literal

from bargein_protocol import Data, TextDelta
from bargein_server.agent import Agent, Contained, Output, Turn, as_generator

ROOM = 16
"""Outputs that may be queued before `put` waits."""


class OutputMux:
    """Merger of the outputs of concurrent tasks.

    Args:
        turn: The turn that the tasks belong to.

    Attributes:
        tasks: All started tasks, in order.
    """

    def __init__(self, turn: Turn) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self._turn = turn
        self._queue: deque[Output] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a task.

        All tasks are created before the first of them takes a step.
        """
        task = self._turn.spawn(work)
        self.tasks.append(task)
        task.add_done_callback(lambda _: self._news.set())
        return task

    def push(self, output: Output) -> None:
        """Queue a rare output without waiting, in the step that it reports."""
        if not self._closed:
            self._queue.append(output)
            self._news.set()

    async def put(self, output: Output) -> None:
        """Queue an output when there is room.

        It waits while the generator is not pulled. Cancelling it is safe: nothing was queued. Once the
        generator has ended, the output is dropped.
        """
        while len(self._queue) >= ROOM and not self._closed:
            self._room.clear()
            await self._room.wait()
        self.push(output)

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Yield queued outputs until all tasks have ended.

        Closing it ends the tasks.

        Raises:
            BaseException: The error of the first task that failed, once the outputs before it were
                yielded. The other tasks are cancelled.
        """
        try:
            while True:
                self._news.clear()
                ended = [task for task in self.tasks if task.done()]
                while self._queue:
                    output = self._queue.popleft()
                    self._room.set()
                    yield output
                for task in ended:
                    task.result()
                if len(ended) == len(self.tasks) and not self._queue:
                    return
                await self._news.wait()
        finally:
            self._closed = True
            self._room.set()
            await self._end()

    async def _end(self) -> None:
        rest = [task for task in self.tasks if not task.done()]
        for task in rest:
            if not task.cancelling():  # a second cancel would cut the cleanup that the first one began
                task.cancel()
        if rest:
            await asyncio.wait(rest)
        for task in self.tasks:
            if not task.cancelled():
                task.exception()  # retrieved: the first error was raised, the others are of its cancel


log: logging.Logger = logging.getLogger("bargein.parallel")

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
        self.text: str = ""
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
            self._mux.start(self._run(self._turn.in_lane(source), agent))
        async with aclosing(self._mux.outputs()) as outputs:
            async for output in outputs:
                yield output

    async def _run(self, turn: Turn, agent: Agent) -> None:
        branch = self._branches[turn.source]
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": turn.source}
        span = turn.span(f"invoke_agent {turn.source}", attributes)
        try:
            with span.current():  # this task belongs to the branch alone
                await Contained(self._pull(turn, agent, branch))
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
        generator = await as_generator(agent(turn))
        async with aclosing(generator):
            step = anext(generator)
            try:
                while True:
                    try:
                        output = await step
                    except StopAsyncIteration:
                        return
                    labelled = turn.labelled(output)
                    branch.note(labelled)
                    try:
                        await self._mux.put(labelled)
                    except asyncio.CancelledError as error:
                        # The agent stands at its `yield`: throw the cancel into it, as the runner does.
                        step = generator.athrow(error)
                    else:
                        step = anext(generator)
            finally:
                del step  # it may hold the error, and its traceback this frame

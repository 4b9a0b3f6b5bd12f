"""An event loop for several nodes, each of which can stand still or die.

A node runs in a context of its own, which every task, timer and callback of it inherits. The callbacks of a
node that stands still are held back, and run in their order when it goes on. A node that dies stands still
for good; its callbacks run after the run is over, when nothing that they do has an effect.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import Handle
from collections.abc import Callable
from contextvars import Context, ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ..loop import SimulatedLoop, _Task
from .transport import PeerTransport

if TYPE_CHECKING:
    from .network import SimulatedSocket

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Standing:
    """The part of a node that the loop uses: its context and its tasks.

    Attributes:
        skew_s: Seconds by which its clock is ahead of that of others.
        tasks: Its tasks that have not ended.
    """

    def __init__(self) -> None:
        self.skew_s = 0.0
        self.tasks: set[asyncio.Task[Any]] = set()
        self._context = Context()
        self._context.run(NODE.set, self)

    def context(self) -> Context:
        """Return a copy of its context."""
        return self._context.copy()

    def enter(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call something as this node."""
        return self._context.copy().run(function, *args)


NODE: ContextVar[Standing | None] = ContextVar("node", default=None)


class NodeLoop(SimulatedLoop):
    """See the module."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self._held: dict[Standing, list[Handle]] = {}
        self._sockets: dict[int, SimulatedSocket] = {}
        self._nothing = Handle(int, (), self, self._outside)
        self._nothing.cancel()
        self.set_task_factory(_task_of_node)

    def stands(self, node: Standing) -> bool:
        """Return whether a node stands still."""
        return node in self._held

    def stand_still(self, node: Standing) -> None:
        """Hold a node's callbacks back, also those of this very iteration."""
        if node in self._held:
            return
        held = self._held[node] = []
        for index, handle in enumerate(self._ready):
            if _node_of(handle) is node:
                held.append(handle)
                self._ready[index] = self._nothing

    def go_on(self, node: Standing) -> None:
        """Let a node go on."""
        self._ready.extend(self._held.pop(node, ()))

    # --- sockets of nodes ----------------------------------------------------------------------------

    def connect_node(self, sock: SimulatedSocket) -> None:
        """Have a socket found by its number."""
        self._sockets[sock.fileno()] = sock

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call something while a socket can be read."""
        self._sockets[fd].watch(reader=partial(callback, *args))

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call something while a socket can be written."""
        self._sockets[fd].watch(writer=partial(callback, *args))

    def remove_reader(self, fd: Any) -> bool:
        """Call nothing any more."""
        return self._sockets[fd].unwatch(reading=True)

    def remove_writer(self, fd: Any) -> bool:
        """Call nothing any more."""
        return self._sockets[fd].unwatch(reading=False)

    async def connect_accepted_socket(self, factory: Any, sock: Any, **options: Any) -> Any:  # type: ignore[override]
        """Return a transport over a socket of a node, and its protocol."""
        protocol = factory()
        transport = PeerTransport(self, sock, protocol)
        begun: asyncio.Future[None] = self.create_future()
        self.call_soon(transport.begin, begun)
        await begun
        return transport, protocol

    # --- standing still ------------------------------------------------------------------------------

    def _call_soon(self, callback: Any, args: Any, context: Any) -> Handle:
        handle: Handle = super()._call_soon(callback, args, context)  # type: ignore[misc]
        if self._held and (held := self._held.get(_node_of(handle))) is not None:  # type: ignore[arg-type]
            held.append(self._ready.pop())
        return handle

    def _collect_timers(self) -> None:
        before = len(self._ready)
        super()._collect_timers()
        if self._held:
            due = [self._ready.pop() for _ in range(len(self._ready) - before)]
            for handle in reversed(due):
                held = self._held.get(_node_of(handle))  # type: ignore[arg-type]
                (self._ready if held is None else held).append(handle)


def _node_of(handle: Handle) -> Standing | None:
    node: Standing | None = handle._context.get(NODE)  # type: ignore[attr-defined]
    return node


def _task_of_node(
    loop: Any, work: Any, *, context: Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = _Task(work, loop=loop, context=context, **options)
    node = NODE.get() if context is None else context.get(NODE)
    if node is not None:
        node.tasks.add(task)
        task.add_done_callback(node.tasks.discard)
    return task

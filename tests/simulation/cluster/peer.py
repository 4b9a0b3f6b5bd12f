"""A node among the others: its real `Node`, on the simulated network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from bargein_server.cluster.channel import Channel
from bargein_server.cluster.handover import HandOver
from bargein_server.cluster.node import Node
from bargein_server.cluster.place import Place
from bargein_server.guard.limits import Connections
from bargein_server.hosting.registry import SessionRegistry

from .network import PeerNetwork, SimulatedSocket

if TYPE_CHECKING:
    from .node import SimulatedNode

SECRET = b"secret of all machines"
PORT = 9000


class _Path:
    """Path of a worker's socket, or of nothing."""

    def __init__(self, network: PeerNetwork, name: str) -> None:
        self.name = name
        self._network = network

    def exists(self) -> bool:
        return self._network.node(self.name) is not None

    def unlink(self) -> None:
        """Nobody listens any more; its node has ended by then."""


class SimulatedPlace(Place, frozen=True):
    """A place in a folder that only the simulation has: one for each machine."""

    network: Any = None

    def path_of(self, name: str) -> Path:
        """Return the socket of a worker of this machine."""
        return cast(Path, _Path(self.network, f"{self.folder}/{name}"))


class SimulatedPeer(Node):
    """The node's part in the cluster.

    Attributes:
        listens: Whether it accepts connections of other nodes.
        connections: Its count of connections of clients that other nodes have accepted.
    """

    def __init__(self, network: PeerNetwork, node: SimulatedNode, chance: random.Random) -> None:
        name = chance.randbytes(4).hex()
        place = SimulatedPlace(name, f"machine {node.machine}", network=network)
        super().__init__(place, _adopt, _no_application)
        self.connections = Connections(10_000, 10_000)
        self.listens = True
        network.listen(f"machine {node.machine}/{name}", node)
        network.listen(node.address, node)

    def begin(self, registry: SessionRegistry) -> None:
        """Begin, as `Node.start` and `Node.serve_machines` do with real sockets."""
        self._registry = registry
        assert registry.keeper is not None
        self.peers.secret = SECRET
        self._ask_store(registry.keeper)
        admission = SimpleNamespace(connections=self.connections)
        self.hand_over = HandOver(self.peers, _adopt, registry, cast(Any, admission))

    def accept(self, sock: SimulatedSocket) -> None:
        """Serve a connection of another node."""
        self._run(self._serve(Channel(cast(Any, sock))))

    async def stop(self, began: float | None = None) -> None:
        """Stop, as at the end of a worker."""
        self.listens = False
        self._listening.append(self._run(asyncio.sleep(0)))  # it had a listener
        await super().stop(began)

    def residue(self) -> list[str]:
        """Return names of everything that is left of clients of other nodes."""
        left = {
            "pipes": len(self.hand_over.pipes),
            "clients": len(self.hand_over.served),
            "connections": len(self.connections),
            "relays": len(self._relays),
        }
        return [name for name, number in left.items() if number]


async def _adopt(descriptor: int, attach: Callable[[Any], None]) -> None:
    raise AssertionError("sockets are not handed over in the simulation")


async def _no_application(scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    raise AssertionError("requests over HTTP are not forwarded in the simulation")

"""Peers that mean no good, or know no better: they speak frames, without a client."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING

import bargein_protocol as bp
from bargein_client.errors import ChannelClosed
from bargein_protocol import JSON

from .network import Link
from .witness import Witness

if TYPE_CHECKING:
    from .world import World


class _Peer:
    """A connection without a client."""

    def __init__(self, world: World, name: str) -> None:
        self.witness = Witness(name, world.oracle)
        self.world = world
        self.chance = random.Random(f"{world.seed} {name}")
        self.events: list[bp.ServerEvent | bp.UnknownEvent] = []
        self.link: Link | None = None

    async def connect(self) -> bool:
        """Connect, and read what comes from then on."""
        try:
            self.link = await self.world.connect(self.witness, self.chance)
        except ChannelClosed:
            return False
        self.reader = self.world.loop.create_task(self._read(self.link))
        return True

    async def _read(self, link: Link) -> None:
        try:
            while True:
                self.events.append(await link.line.receive())
        except ChannelClosed:
            pass

    def send(self, event: bp.ClientEvent) -> bool:
        """Write an event; False when the line has ended."""
        assert self.link is not None
        try:
            self.link.line.send_frame(JSON.encode(event))
        except ChannelClosed:
            return False
        return True

    async def hang_up(self) -> None:
        """End the connection."""
        assert self.link is not None
        self.link.line.read_again()
        self.link.line.abort()
        await asyncio.wait([self.reader])


async def stranger(world: World, number: int) -> None:
    """Resumes the sessions of others with what it may have found: old tokens, other tokens, guesses."""
    peer = _Peer(world, f"stranger{number}")
    for _ in range(3):
        await asyncio.sleep(peer.chance.random() ** 2 * 5)
        if not world.oracle.truths or not await peer.connect():
            continue
        target = peer.chance.choice(list(world.oracle.truths))
        truth = world.oracle.truths[target]
        found = [token for other in world.oracle.truths.values() for token in other.tokens]
        bad = [token for token in found if token not in truth.good] + [bp.Token("guess")]
        old = [token for token in truth.tokens if token not in truth.good]
        cursor = bp.Cursor(epoch=truth.epoch, seq=bp.Seq(0))
        resume = bp.Resume(session_id=target, token=peer.chance.choice(old or bad), cursor=cursor)
        event = bp.Interrupt(id=bp.InterruptId("stolen"), reason="for a stranger")
        peer.events.clear()
        peer.send(bp.SessionOpen(resume=resume, pending=[event]))
        await asyncio.sleep(peer.chance.random() * 2)
        for came in peer.events:
            if isinstance(came, bp.SessionOpened):
                refused = not came.resumed and came.session_id != target
                world.oracle.expect(refused, f"{peer.witness.name} got into {target}")
        await peer.hang_up()


async def repeater(world: World, number: int) -> None:
    """Sends every request several times, also long after its answer: the answer is the first one."""
    peer, ids = _Peer(world, f"repeater{number}"), count(1)
    if not await peer.connect():
        return
    sent: list[bp.InputText | bp.Interrupt] = []
    for _ in range(peer.chance.randint(1, 12)):
        if sent and peer.chance.random() < 0.5:
            event = peer.chance.choice(sent)
        elif peer.chance.random() < 0.5:
            text = f"talks {peer.chance.getrandbits(32)}"
            event = bp.InputText(id=bp.InputId(f"i{next(ids)}"), text=text, on_busy="queue")
        else:
            # Late, early, or the bare form.
            known = peer.chance.choice([None, *(f"i{n}" for n in range(1, 6))])
            input_id = None if known is None else bp.InputId(known)
            reason = f"for {known}" if known else None
            event = bp.Interrupt(id=bp.InterruptId(f"x{next(ids)}"), input_id=input_id, reason=reason)
        sent.append(event)
        if not peer.send(event):
            break
        await asyncio.sleep(peer.chance.random() ** 3)
    await asyncio.sleep(peer.chance.random())
    _check_answers(world, peer)
    await peer.hang_up()


def _check_answers(world: World, peer: _Peer) -> None:
    first: dict[str, tuple[object, ...]] = {}
    request: str
    answer: tuple[object, ...]
    for event in peer.events:
        if isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            request, answer = str(event.input_id), (event.turn_id,)
        elif isinstance(event, bp.InputRejected):
            request, answer = str(event.input_id), (event.code,)
        elif isinstance(event, bp.InterruptResult):
            request, answer = str(event.interrupt_id), (event.turn_id, event.outcome)
        else:
            continue
        world.oracle.expect(event.duplicate == (request in first), f"{request} was answered anew: {event}")
        world.oracle.expect(first.setdefault(request, answer) == answer, f"{request} was answered otherwise")


async def idler(world: World, number: int) -> None:
    """Connects and says nothing, or asks much and reads nothing: it is dropped, and costs little."""
    peer = _Peer(world, f"idler{number}")
    if not await peer.connect():
        return
    assert peer.link is not None
    if peer.chance.random() < 0.5:
        peer.link.line.read_again(False)
        for n in range(peer.chance.randint(1, 300)):
            if not peer.send(bp.Ping(id=f"p{n}")):
                break
            if n == 0:
                peer.send(bp.InputText(id=bp.InputId("i"), text=f"floods {n}"))
            await asyncio.sleep(peer.chance.random() * 0.01)
    link, settings = peer.link, world.sessions.settings
    await asyncio.sleep(settings.first_frame_s + 1.0)
    spoke = link.connection._host is not None
    world.oracle.expect(spoke or link.connection._closing, f"{peer.witness.name} may stay without a word")
    await peer.hang_up()

"""Both cores behave alike in random conversations."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import bargein_protocol as bp
import golden_vectors as wire
from bargein_client.core import ClientCore
from bargein_client.errors import ServerViolation
from bargein_client.inbox import Inbox
from bargein_client.phases import Phase
from bargein_client.tracked_turn import TrackedTurn
from numbering_model import ModelServer

CONVERSATIONS = 400
STEPS = 150


class Recorder:
    """Recorder of random conversations with a correct server.

    The steps are those of `protocol/conversations.json`.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.core = ClientCore()
        self.everything = self.core.subscribe()
        self.server = ModelServer()
        self.up: list[bp.ClientEvent] = []
        self.turns: dict[str, TrackedTurn] = {}
        self.steps: list[dict[str, Any]] = []
        self.ids = 0

    def record(self) -> list[dict[str, Any]]:
        """Return the steps of a conversation."""
        self.connect()
        acts = {
            self.deliver_up: 9, self.deliver_down: 12, self.connect: 5, self.say: 8, self.read: 4,
            self.ask: 4, self.interrupt: 3, self.control: 2, self.finish: 2, self.cut: 2, self.garble: 1,
        }  # fmt: skip
        for act in self.chance.choices(list(acts), list(acts.values()), k=STEPS):
            act()
        self.note(hears=taken(self.everything), cursor=self.core.last_seq)
        for name in self.turns:
            self.read(name)
        self.note(open=[name for name, turn in self.turns.items() if not turn.over])
        return self.steps

    def note(self, **steps: Any) -> None:
        self.steps += [{name: argument} for name, argument in steps.items()]

    def pump(self) -> None:
        sent = self.core.outgoing()
        self.up += sent
        outcomes = [[key, wire.plain(outcome)] for key, outcome in self.core.outcomes()]
        self.note(sends=[wire.plain(event) for event in sent], outcomes=outcomes)

    # --- the line --------------------------------------------------------------------------------

    def connect(self) -> None:
        if self.core.phase is Phase.OFFLINE:
            self.server.detach()
            self.core.attach()
            self.note(attach=True)
            self.pump()

    def cut(self) -> None:
        self.core.detach()
        self.note(detach=True)
        self.server.detach()
        self.up.clear()
        fate = self.chance.random()
        if fate < 0.2:
            self.server.trim()
        elif fate < 0.3:
            self.server.forget()

    def deliver_up(self) -> None:
        for _ in range(min(self.chance.randint(1, 4), len(self.up))):
            self.server.receive(self.up.pop(0))

    def deliver_down(self) -> None:
        for _ in range(min(self.chance.randint(1, 6), len(self.server.down))):
            event = self.server.down.popleft()
            self.core.receive(event)
            self.note(receives=[wire.plain(event)])
        self.pump()

    def garble(self) -> None:
        """Something comes again, too early, or from nowhere."""
        if not self.server.log:
            return
        event = self.chance.choice(self.server.log)
        try:
            self.core.receive(event)
        except ServerViolation:
            self.note(violates=wire.plain(event))
            self.cut()
        else:
            self.note(receives=[wire.plain(event)])
            self.pump()

    # --- the user --------------------------------------------------------------------------------

    def ask(self) -> None:
        self.ids += 1
        on_busy: bp.OnBusy | None = self.chance.choice([None, "interrupt", "queue", "reject"])
        event = bp.InputText(id=bp.InputId(f"in_{self.ids}"), text="x", on_busy=on_busy)
        self.turns[event.id] = self.core.send_input(event)
        self.note(asks=wire.plain(event))
        self.pump()

    def interrupt(self) -> None:
        if self.turns:
            name = self.chance.choice(list(self.turns))
            if self.turns[name].over and self.turns[name].turn_id is None:
                return  # its input was refused
            self.ids += 1
            self.core.interrupt(bp.Interrupt(id=bp.InterruptId(f"x_{self.ids}")), self.turns[name])
            self.note(interrupts={"turn": name, "id": f"x_{self.ids}"})
            self.pump()

    def control(self) -> None:
        if self.turns:
            name = self.chance.choice(list(self.turns))
            if self.chance.random() < 0.5:
                self.core.hold(self.turns[name])
                self.note(holds=name)
            else:
                chars = self.chance.randint(0, 9)
                self.core.playback(self.turns[name], bp.Played(chars=chars))
                self.note(plays={"turn": name, "chars": chars})
            self.pump()

    def read(self, name: str | None = None) -> None:
        if self.turns:
            name = name or self.chance.choice(list(self.turns))
            events = taken(self.turns[name].inbox)
            text = self.turns[name].text
            self.note(reads={"turn": name, "events": events}, text={"turn": name, "is": text})

    # --- the server ------------------------------------------------------------------------------

    def say(self) -> None:
        self.server.say(f"w{self.chance.randint(0, 99)} ")

    def finish(self) -> None:
        act = self.chance.choice([self.server.finish, self.server.protect, self.server.unprotect])
        act()


def taken(inbox: Inbox) -> list[Any]:
    events = []
    while (event := inbox.take()) is not None:
        events.append(wire.plain(event))
    return events


async def test_the_cores_agree(tmp_path: Path) -> None:
    """Same steps, same events delivered, same answers, same frames sent."""
    conversations = [
        {"name": f"seed {seed}", "steps": Recorder(seed).record()} for seed in range(CONVERSATIONS)
    ]
    interesting = json.dumps(conversations)
    for what in ("client.turn_snapshot", "client.restarted", "client.resumed", "deferred", "violates"):
        assert interesting.count(what) > 20, f"too few conversations have {what}"
    file = tmp_path / "conversations.json"
    file.write_text(interesting)
    process = await asyncio.create_subprocess_exec(
        "node", str(Path(__file__).parent / "replay.js"), str(file), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()

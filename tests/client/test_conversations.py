"""`protocol/conversations.json`, played with the Python core."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import msgspec
import pytest

import bargein_protocol as bp
import golden_vectors as wire
from bargein_client import TooLarge, TooManyPending
from bargein_client.core import ClientCore
from bargein_client.errors import ServerViolation
from bargein_client.inbox import Inbox
from bargein_client.tracked_turn import TrackedTurn

Step = dict[str, Any]
CONVERSATIONS: list[dict[str, Any]] = json.loads((wire.PROTOCOL / "conversations.json").read_text("utf-8"))[
    "conversations"
]


class Player:
    """Player of a conversation; a step is one name with its argument."""

    def __init__(self) -> None:
        self.core = ClientCore()
        self.everything = self.core.subscribe()
        self.turns: dict[str, TrackedTurn] = {}

    def play(self, step: Step) -> None:
        """Do a step."""
        ((name, argument),) = step.items()
        getattr(self, name)(argument)

    # --- the sound -------------------------------------------------------------------------------

    def audio(self, asked: Step) -> None:
        self.core = ClientCore(audio=msgspec.convert(asked, bp.SessionAudio))
        self.everything = self.core.subscribe()

    def speaks(self, sound: str) -> None:
        self.core.audio.send(b64decode(sound))

    def clears(self, _: bool) -> None:
        self.core.audio.clear()

    # --- the line --------------------------------------------------------------------------------

    def attach(self, _: bool) -> None:
        self.core.attach()

    def detach(self, _: bool) -> None:
        self.core.detach()

    def receives(self, events: list[Step]) -> None:
        for event in events:
            self.core.receive(decoded(event))

    def violates(self, event: Step) -> None:
        with pytest.raises(ServerViolation):
            self.core.receive(decoded(event))

    def sends(self, events: list[Step]) -> None:
        assert [wire.plain(event) for event in self.core.outgoing()] == events

    # --- the application -------------------------------------------------------------------------

    def asks(self, event: Step) -> None:
        asked = msgspec.convert(event, bp.InputText | bp.InputCommit)
        self.turns[event["id"]] = self.core.send_input(asked)

    def interrupts(self, fields: Step) -> None:
        turn = self.turns[fields["turn"]]
        self.core.interrupt(bp.Interrupt(id=bp.InterruptId(fields["id"])), turn)

    def rewinds(self, event: Step) -> None:
        self.core.rewind(msgspec.convert(event, bp.SessionRewind))

    def holds(self, turn: str) -> None:
        self.core.hold(self.turns[turn])

    def resumes(self, turn: str) -> None:
        self.core.resume(self.turns[turn])

    def plays(self, fields: Step) -> None:
        self.core.playback(self.turns[fields["turn"]], msgspec.convert(fields, bp.Played))

    def updates(self, metadata: Step) -> None:
        self.core.update(metadata)

    def answers(self, event: Step) -> None:
        self.core.answer_tool(msgspec.convert(event, bp.ToolOutput))

    def refuses(self, step: Step) -> None:
        with pytest.raises((TooManyPending, TooLarge)):
            self.play(step)

    # --- what comes out --------------------------------------------------------------------------

    def reads(self, fields: Step) -> None:
        inbox = self.turns[fields["turn"]].inbox
        read = taken(inbox, fields.get("count"))
        assert "events" not in fields or read == fields["events"]

    def hears(self, events: list[Step]) -> None:
        assert taken(self.everything) == events

    def hears_all(self, _: bool) -> None:
        taken(self.everything)

    def subscribe(self, _: bool) -> None:
        self.everything = self.core.subscribe()

    def outcomes(self, expected: list[Any]) -> None:
        assert [[key, wire.plain(outcome)] for key, outcome in self.core.outcomes()] == expected

    def text(self, fields: Step) -> None:
        assert self.turns[fields["turn"]].text == fields["is"]

    def open(self, inputs: list[str]) -> None:
        assert [key for key, turn in self.turns.items() if not turn.over] == inputs
        assert len(self.core.turns) == len(inputs)
        current = self.core.turns.current
        assert (current.input_id if current else None) == (inputs[0] if inputs else None)

    def cursor(self, seq: int) -> None:
        assert self.core.last_seq == seq

    def reconnect_after_ms(self, delay: int | None) -> None:
        asked = self.core.reconnect_after_s
        assert (None if asked is None else asked * 1000) == delay


def decoded(event: Step) -> bp.ServerEvent | bp.UnknownEvent:
    """Return a received event, decoded."""
    return bp.JSON.decode_server(json.dumps(event).encode())


def taken(inbox: Inbox, count: int | None = None) -> list[Step]:
    """Take so many events, all when no count is given."""
    events: list[Step] = []
    while len(events) != count and (event := inbox.take()) is not None:
        events.append(wire.plain(event))
    return events


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation["name"])
def test_a_conversation(conversation: dict[str, Any]) -> None:
    """Every step comes true."""
    player = Player()
    for step in conversation["steps"]:
        player.play(step)


def test_names_are_unique() -> None:
    """A failing conversation can be found by its name."""
    names = [conversation["name"] for conversation in CONVERSATIONS]
    assert len(set(names)) == len(names)

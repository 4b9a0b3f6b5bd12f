"""Conversations of a client's core with a server that sends any event in any order.

A conversation is a list of steps, each a name with its arguments, so that the cores of both languages can
take the same ones. `Played` takes them with the Python core and records the result of each.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
from msgspec import inspect

import bargein_protocol as bp
import golden_vectors as wire
from bargein_client.core import ClientCore
from bargein_client.errors import ServerViolation, TooLarge, TooManyPending
from bargein_client.inbox import Bounds
from bargein_client.phases import Phase
from bargein_client.tracked_turn import TrackedTurn

Step = list[Any]

BOUNDS = Bounds(events=40, size=4000)

_NAMES: dict[str, tuple[Any, ...]] = {
    "turn_id": ("t_1", "t_2", "t_3", "t_4", "t_1", "t_2", ""),
    "input_id": ("in_1", "in_2", "in_3", "in_4", "in_9", "x_1", "x_2", ""),
    "interrupt_id": ("x_1", "x_2", "x_3", "x_4", "in_1", "in_2"),
    "ref_id": ("in_1", "in_2", "x_1", "x_2", "c_1", ""),
    "call_id": ("c_1", "c_2", "c_3", "constructor"),
    "epoch": ("e_1", "e_1", "e_1", "e_2"),
    "source": ("", "", "a", "b", "__proto__", "constructor"),
    "name": ("n", "m", "__proto__", "toString"),
    "code": ("busy", "unknown_call", "session_lost", "other"),
    "resumed": (True, False, False),
}
_LATER: dict[str, tuple[int, ...]] = {"seq": (1,) * 20 + (0, 2, -1, 7), "through": (0, 0, 0, 1, 3, -1)}
_NUMBERS = (0, 1, 2, 3, 1000, 2**31, 2**53 - 1)
_TEXTS = ("", "a", "hello ", "\U0001f600", "x" * 300, "\0", "é" * 50)
_VALUES: tuple[Any, ...] = (
    None,
    0,
    "x",
    [1, [2]],
    {"a": {"__proto__": 1}},
    {"__proto__": {"type": "x"}},
    -1.5,
    True,
)
_KINDS = [inspect.type_info(kind) for kind in wire.EVENTS["server"]]
_SHARES = {
    "session.opened": 1,
    "turn.ended": 3,
    "text.delta": 6,
    "snapshot": 2,
    "turn.started": 4,
    "input.accepted": 4,
}
_WEIGHTS = [_SHARES.get(str(kind.tag), 2) for kind in _KINDS if isinstance(kind, inspect.StructType)]
_ACTS = {
    "event": 30, "ask": 4, "interrupt": 3, "hold": 1, "resume": 1, "play": 2, "update": 1, "answer": 1,
    "take": 4, "drain": 3, "attach": 3, "detach": 1,
}  # fmt: skip


class Conversation:
    """Source of one conversation.

    Args:
        chance: Source of randomness.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._seq = 0
        self._ids = 0

    def encoded(self, count: int) -> bytes:
        """Return so many steps, a line of JSON for each."""
        return b"\n".join(json.dumps(step).encode() for step in self.steps(count))

    def steps(self, count: int) -> list[Step]:
        """Return so many steps, after those that open the session."""
        steps: list[Step] = [["attach"], self._opened(False)]
        for act in self._chance.choices(list(_ACTS), list(_ACTS.values()), k=count):
            steps.append(self._step(act))
            if act == "attach" and self._chance.random() < 0.9:
                steps.append(self._opened(self._chance.random() < 0.8))
                if self._chance.random() < 0.5:
                    kind = self._chance.choice((bp.Snapshot, bp.Snapshot, bp.ReplayDone))
                    steps.append(["event", json.dumps(self._value(inspect.type_info(kind), ""))])
        return steps

    def _opened(self, resumed: bool) -> Step:
        self._seq = self._seq if resumed else 0
        opened = {
            "type": "session.opened", "session_id": "s", "token": "k", "epoch": "e_1", "resumed": resumed,
            "heartbeat_ms": 0, "limits": {"frame_bytes": 262_144, "pending": 64, "queued": 8},
        }  # fmt: skip
        return ["event", json.dumps(opened)]

    def _step(self, act: str) -> Step:
        chance = self._chance
        own = f"in_{chance.randint(1, 4)}"
        match act:
            case "event":
                return [act, json.dumps(self._event())]
            case "ask":
                self._ids += 1
                return [act, f"in_{self._ids % 5}", chance.choice((None, "interrupt", "queue", "reject"))]
            case "interrupt":
                self._ids += 1
                return [act, f"x_{self._ids % 5}", own]
            case "hold" | "resume":
                return [act, own]
            case "play":
                return [act, own, chance.choice((0, 3, 2**53 - 1))]
            case "update":
                return [act, {chance.choice(("a", "b", "__proto__")): chance.choice((None, 1, "x"))}]
            case "answer":
                return [act, f"c_{chance.randint(1, 3)}"]
            case "take":
                return [act, own, chance.randint(1, 30)]
        return [act]

    def _event(self) -> dict[str, Any]:
        (kind,) = self._chance.choices(_KINDS, _WEIGHTS)
        event: dict[str, Any] = self._value(kind, "")
        if self._chance.random() < 0.03:
            event["type"] = self._chance.choice(("future.thing", "client.turn_snapshot", "constructor"))
        if event.get("seq") == self._seq + 1:
            self._seq += 1
        elif event["type"] == "session.opened" and not event["resumed"]:
            self._seq = 0
        return event

    def _value(self, info: inspect.Type, name: str) -> Any:
        chance = self._chance
        if name in _LATER and chance.random() < 0.95:
            return max(0, self._seq + chance.choice(_LATER[name]))
        if name in _NAMES:
            return chance.choice(_NAMES[name])
        match info:
            case inspect.BoolType():
                return chance.random() < 0.3
            case inspect.IntType():
                return chance.choice(_NUMBERS)
            case inspect.FloatType():
                return chance.choice((0, 0.5, 1e15, -1e15))
            case inspect.StrType():
                text = chance.choice(_TEXTS)[: info.max_length]
                return text if len(text) >= (info.min_length or 0) else "k"
            case inspect.BytesType():
                return chance.choice(("", "QUJD", "QUJD" * 100))
            case inspect.LiteralType():
                return chance.choice(info.values)
            case inspect.UnionType():
                return self._value(chance.choice(info.types), name)
            case inspect.ListType():
                return [self._value(info.item_type, "") for _ in range(chance.choice((0, 1, 1, 2, 3)))]
            case inspect.DictType():
                keys = chance.sample(_NAMES["source"], chance.choice((0, 1, 1, 2)))
                return {key: self._value(info.value_type, "") for key in keys}
            case inspect.StructType():
                fields = [
                    field for field in info.fields if field.required or chance.random() < self._share(field)
                ]
                return {
                    **({"type": info.tag} if info.tag_field else {}),
                    **{field.encode_name: self._value(field.type, field.encode_name) for field in fields},
                }
            case inspect.NoneType():
                return None
        return chance.choice(_VALUES)

    @staticmethod
    def _share(field: inspect.Field) -> float:
        return 0.98 if field.encode_name in ("seq", "turn_id") else 0.4


class Played:
    """The Python core, which takes the steps of a conversation.

    Attributes:
        core: The core.
        results: For each step: its result, the last number, the number of open turns.
    """

    def __init__(self) -> None:
        self.core = ClientCore(bounds=BOUNDS)
        self.results: list[list[Any]] = []
        self._everything = self.core.subscribe()
        self._turns: dict[str, TrackedTurn] = {}
        self._waiting: dict[str, tuple[type, ...]] = {}

    def play(self, steps: list[Step]) -> None:
        """Take the steps; errors of the client are results, all others are raised."""
        for name, *arguments in steps:
            try:
                result = getattr(self, f"_{name}")(*arguments) or "done"
            except (ServerViolation, TooManyPending, TooLarge) as error:
                result = type(error).__name__
                if isinstance(error, ServerViolation):
                    self.core.detach()
            self.results.append([result, self.core.last_seq, len(self.core.turns)])
        self._drain()
        assert set(self._waiting) <= set(self.core._outbox.unanswered), "a request will never be answered"

    def _attach(self) -> str | None:
        if self.core.phase is not Phase.OFFLINE:
            return "attached"
        self.core.attach()
        return None

    def _detach(self) -> None:
        self.core.detach()

    def _event(self, frame: str) -> str | None:
        try:
            event = bp.JSON.decode_server(frame.encode())
        except bp.DecodeError:
            return "refused"
        self.core.receive(event)
        return None

    def _ask(self, name: str, on_busy: bp.OnBusy | None) -> str | None:
        turn = self._turns.get(name)
        if turn is not None and not turn.over:
            return "waits"
        event = bp.InputText(id=bp.InputId(name), text="x", on_busy=on_busy)
        self._turns[name] = self.core.send_input(event)
        self._waiting[name] = (bp.InputAccepted, bp.InputQueued, bp.InputRejected, bp.ErrorEvent)
        return None

    def _interrupt(self, name: str, own: str) -> str | None:
        turn = self._turns.get(own)
        if turn is None:
            return "none"
        self.core.interrupt(bp.Interrupt(id=bp.InterruptId(name)), turn)
        self._waiting[name] = (bp.InterruptResult, bp.ErrorEvent)
        return None

    def _hold(self, own: str) -> None:
        if own in self._turns:
            self.core.hold(self._turns[own])

    def _resume(self, own: str) -> None:
        if own in self._turns:
            self.core.resume(self._turns[own])

    def _play(self, own: str, chars: int) -> None:
        if own in self._turns:
            self.core.playback(self._turns[own], bp.Played(chars=chars))

    def _update(self, metadata: dict[str, Any]) -> None:
        self.core.update(metadata)

    def _answer(self, call_id: str) -> None:
        self.core.answer_tool(bp.ToolOutput(call_id=bp.CallId(call_id), output=1))

    def _take(self, own: str, count: int) -> int:
        inboxes = [self._everything, *(turn.inbox for name, turn in self._turns.items() if name == own)]
        taken = 0
        for inbox in inboxes:
            assert len(inbox) <= BOUNDS.events + 1
            for _ in range(count):
                taken += inbox.take() is not None
        return taken

    def _drain(self) -> str:
        sent = [str(msgspec.structs.asdict(event).get("id", "")) for event in self.core.outgoing()]
        outcomes = []
        for key, outcome in self.core.outcomes():
            outcomes.append(key)
            if isinstance(outcome, self._waiting.get(key, ())):
                del self._waiting[key]
        return f"{len(sent)} {','.join(outcomes)}"

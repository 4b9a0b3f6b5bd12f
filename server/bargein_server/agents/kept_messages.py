"""Parts of assistant messages that a model's server wants back unchanged.

History holds what every server understands: text, tool calls, results. Reasoning models want more with
their tool calls: DeepSeek and Kimi refuse a request without the `reasoning_content` that belonged to a
call, Gemini one without its signature, which is in the call's `extra_content`. So all fields that history
does not know are kept for each call and put back into the messages of the same turn and of later ones.

Which fields a server gets depends on what it sent. A server that refuses a field, by name, does not get
it any more; one that misses a field that is lost, as after a restart, gets a stand-in for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from msgspec import Struct, json

from bargein_server.agent import Message, Turn

# Per session. History is bounded as well, and calls that left it need no fields any more.
MAX_CALLS = 512
MAX_KEPT_BYTES = 1024 * 1024

# Stand-ins for lost fields, by the name in the server's complaint: the message's or the call's fields.
# Google documents its value for calls that another model made.
_STAND_INS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reasoning_content": ({"reasoning_content": ""}, {}),
    "thought_signature": (
        {},
        {"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}},
    ),
}


class ServerFields(Struct, frozen=True):
    """Fields beyond text and calls that a server sent.

    Args:
        message: Of the assistant's message.
        calls: Of each call, and of its `function`, in the order of the calls.
    """

    message: dict[str, Any]
    calls: Sequence[tuple[dict[str, Any], dict[str, Any]]]


class _Kept(Struct, frozen=True):
    message: dict[str, Any]
    call: dict[str, Any]
    function: dict[str, Any]
    size: int


class _Session:
    def __init__(self) -> None:
        self.calls: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, call_id: str, kept: _Kept) -> None:
        before = self.calls.pop(call_id, None)
        self.calls[call_id] = kept
        self._bytes += kept.size - (before.size if before is not None else 0)
        while self.calls and (len(self.calls) > MAX_CALLS or self._bytes > MAX_KEPT_BYTES):
            _, oldest = self.calls.popitem(last=False)
            self._bytes -= oldest.size


class KeptMessages:
    """Extra parts of servers' tool calls, for the sessions of an agent."""

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[Any, _Session] = WeakKeyDictionary()
        self._unwanted: set[str] = set()
        self._missed: set[str] = set()

    def keep(self, turn: Turn, call_ids: Sequence[str], fields: ServerFields) -> None:
        """Keep the fields of one message with tool calls."""
        for at, (call_id, (call, function)) in enumerate(zip(call_ids, fields.calls, strict=True)):
            message = fields.message if at == 0 else {}
            if message or call or function:
                size = len(json.encode([message, call, function]))
                kept = _Kept(message, call, function, size)
                self._sessions.setdefault(turn.session, _Session()).keep(call_id, kept)

    def restored(self, turn: Turn, messages: Iterable[Message]) -> list[Message]:
        """Return the messages with the fields that belong to their calls."""
        session = self._sessions.get(turn.session) if self._sessions else None
        if session is None and not self._missed:
            return list(messages)
        known: Mapping[str, _Kept] = session.calls if session is not None else {}
        return [self._message(message, known) if "tool_calls" in message else message for message in messages]

    def _message(self, message: Message, known: Mapping[str, _Kept]) -> Message:
        result: Message = {}
        calls = []
        for made in message["tool_calls"]:
            kept = known.get(made["id"])
            if kept is None:
                calls.append(made)
                continue
            for name, value in self._wanted(kept.message).items():
                result.setdefault(name, value)
            function = self._wanted(kept.function) | made["function"]
            calls.append(self._wanted(kept.call) | made | {"function": function})
        result = result | message | {"tool_calls": calls}
        for name in self._missed - self._unwanted:
            of_message, of_call = _STAND_INS[name]
            result = of_message | result
            # Parallel calls have one signature, at the first of them.
            result["tool_calls"] = [
                of_call | made if at == 0 else made for at, made in enumerate(result["tool_calls"])
            ]
        return result

    def _wanted(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in self._unwanted}

    def adapt(self, complaint: str, sent: Iterable[Message]) -> bool:
        """Adapt to a server's refusal of a request.

        Args:
            complaint: The server's message.
            sent: The messages of the request.

        Returns:
            Whether the next request differs, so that it may be accepted.
        """
        names = {name for message in sent for name in _fields_of(message) if name in complaint}
        if unwanted := names - self._unwanted - _STAND_INS.keys():
            self._unwanted |= unwanted
            return True
        for name in _STAND_INS:
            if name in complaint:
                if name not in self._missed and name not in self._unwanted:
                    self._missed.add(name)
                    return True
                if name in names and name not in self._unwanted:
                    self._unwanted.add(name)
                    return True
        return False


_STANDARD = {"role", "content", "name", "id", "type"}
_STANDARD |= {"tool_calls", "tool_call_id", "function", "arguments"}


def _fields_of(message: Mapping[str, Any]) -> set[str]:
    """Return the names of a message's fields that are not part of history."""
    names = set(message)
    for made in message.get("tool_calls", ()):
        names |= set(made) | set(made["function"])
    return names - _STANDARD

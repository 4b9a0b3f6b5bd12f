"""A Realtime session: client events to a bargein session and back. No I/O.

The conversation of the protocol is a list of items, which its client edits at will. The one of bargein is a
list of turns with what was heard. New user messages become the input of the next turn; a deleted user message
drops its turn when no later one is left, before the next turn is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Protocol

from bargein_protocol import (
    CallId,
    InputCommit,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    Playback,
    Played,
    RewindId,
    ServerEvent,
    SessionRewind,
    SessionUpdate,
    ToolDecision,
    ToolOutput,
    TurnId,
)
from bargein_protocol.types import MAX_INPUT_CHARS

from ....core.history import Message
from .items import Items, NoSuchItem
from .requests import BadRequest, checked_item, checked_session, messages_of, text_of
from .response import Response
from .shapes import SPEAKING, JsonMap, default_session, error_object, merged, new_id
from .speech import Ears, Speech
from .turns import RunningTurn

MAX_TURNS = 500
"""Older turns cannot be dropped or truncated any more."""
MAX_OPEN = 8
"""Turns that may still get events: the current one, and those that it has superseded."""

NOT_ACTIVE = "response_cancel_not_active"
ACTIVE = "conversation_already_has_active_response"
NO_ITEM = "item_retrieve_invalid_item_id"
DUPLICATE = "item_create_duplicate_item_id"


class Port(Ears, Protocol):
    """The connection of a dialogue, and the session behind it."""

    def send(self, event: JsonMap) -> None:
        """Send an event to the client."""
        ...

    def seed(self, messages: list[Message]) -> None:
        """Set the messages before the first turn."""
        ...

    def aside(self, messages: list[Message], question: InputText, turn: RunningTurn) -> None:
        """Ask in a session of its own, whose events go to `turn`."""
        ...


class Dialogue:
    """State of one connection.

    Args:
        port: The connection.
        session_id: The id of the session.
        model: Its name of the model.

    Attributes:
        session: The configuration, as the client sees it.
        items: The conversation.
    """

    def __init__(self, port: Port, session_id: str, model: str) -> None:
        self.session = default_session(session_id, model)
        self.items = Items()
        self._port = port
        self._conversation_id = "conv_" + session_id
        self._numbers = count(1)
        self._turn: RunningTurn | None = None
        self._asides: list[RunningTurn] = []
        self._speech = Speech(port, self.items, self._emit, self._said)
        self._unasked: list[str] = []  # ids of items since the last turn
        self._asked: list[tuple[RunningTurn, list[str]]] = []  # turns, with the ids of their user items
        self._handlers: dict[str, Callable[[JsonMap], None]] = {
            "session.update": self._update,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
            "input_audio_buffer.append": self._speech.append,
            "input_audio_buffer.commit": lambda event: self._speech.commit(),
            "input_audio_buffer.clear": lambda event: self._speech.clear(),
            "output_audio_buffer.clear": self._ignore,
        }

    def start(self, patch: JsonMap | None = None) -> None:
        """Send `session.created`, after the configuration of the client's key."""
        if self._port.hears:
            self.session = merged(self.session, SPEAKING)
        self._configure(patch or {})
        self._emit("session.created", session=self.session)

    # --- from the client -------------------------------------------------------------------------

    def receive(self, event: JsonMap) -> None:
        """Take an event of the client."""
        handler = self._handlers.get(str(event.get("type")))
        if handler is None:
            self._refuse(event, "unknown_event", f"expected a known type, got {str(event.get('type'))[:80]}")
            return
        try:
            handler(event)
        except BadRequest as error:
            self._refuse(event, error.code, str(error), error.param)
        except NoSuchItem as error:
            self._refuse(event, NO_ITEM, f"there is no item {str(error)[:100]}", "item_id")

    def _update(self, event: JsonMap) -> None:
        self._configure(checked_session(event.get("session")))
        self._emit("session.updated", session=self.session)

    def _configure(self, patch: JsonMap) -> None:
        fixed = {name: self.session[name] for name in ("id", "object", "type", "model", "expires_at")}
        self.session = {**merged(self.session, patch), **fixed}
        if isinstance(patch.get("model"), str):
            self.session["model"] = patch["model"]
        self._speech.configure(self.session)
        self._publish()

    def _publish(self) -> None:
        """Give instructions, system messages and tools to the agent as metadata."""
        said = [text_of(item) for item in self.items if item.get("role") == "system"]
        texts = [str(self.session["instructions"] or ""), *said]
        metadata = {
            "instructions": "\n\n".join(text for text in texts if text) or None,
            "tools": self.session["tools"] or None,
        }
        self._port.act(SessionUpdate(metadata=metadata))

    # --- items -----------------------------------------------------------------------------------

    def _create_item(self, event: JsonMap) -> None:
        item = checked_item(event.get("item"))
        if item["id"] in self.items:
            raise BadRequest(DUPLICATE, f"an item {item['id'][:100]} exists already", "item.id")
        previous = self.items.add(item, event.get("previous_item_id"))
        self._emit("conversation.item.added", previous_item_id=previous, item=item)
        self._emit("conversation.item.done", previous_item_id=previous, item=item)
        kind = item["type"]
        if item.get("role") == "system":
            self._publish()
        elif kind == "function_call_output" and self._give_output(item["call_id"], item["output"]):
            return
        elif kind == "mcp_approval_response":
            self._decide(item["approval_request_id"], bool(item["approve"]))
        else:
            self._unasked.append(item["id"])

    def _give_output(self, call_id: str, output: str) -> bool:
        turn = self._turn
        if turn is None or not turn.waits_for(call_id):
            return False
        turn.answered(call_id)
        self._port.act(ToolOutput(call_id=CallId(call_id), output=output))
        return True

    def _decide(self, item_id: str, allow: bool) -> None:
        call_id = self._turn.decided(item_id) if self._turn is not None else None
        if call_id is not None:
            self._port.act(ToolDecision(call_id=call_id, allow=allow))

    def _retrieve_item(self, event: JsonMap) -> None:
        self._emit("conversation.item.retrieved", item=self.items.get(str(event.get("item_id"))))

    def _delete_item(self, event: JsonMap) -> None:
        item_id = str(event.get("item_id"))
        was_system = self.items.get(item_id).get("role") == "system"
        self.items.remove(item_id)
        if item_id in self._unasked:
            self._unasked.remove(item_id)
        self._emit("conversation.item.deleted", item_id=item_id)
        if was_system:
            self._publish()

    def _truncate_item(self, event: JsonMap) -> None:
        item_id, until_ms = str(event.get("item_id")), event.get("audio_end_ms")
        if type(until_ms) is not int or until_ms < 0:
            raise BadRequest("invalid_value", "expected audio_end_ms as an integer from 0 on", "audio_end_ms")
        item = self.items.get(item_id)
        if item.get("role") != "assistant":
            raise BadRequest("invalid_value", "only messages of the assistant can be truncated", "item_id")
        turn = self._turn_with(item_id)
        spoken = any(part.get("type") == "output_audio" for part in item["content"])
        if turn is not None and turn.responds and turn.response.message_id == item_id:
            # Some clients take a truncation for a cancel: the rest would never be heard.
            self._interrupt(
                turn, Played(audio_ms=until_ms) if self.session["output_modalities"] == ["audio"] else None
            )
        elif turn is not None and turn.turn_id is not None and spoken:
            self._port.act(Playback(turn_id=turn.turn_id, audio_ms=until_ms))
        if spoken:
            self.items.update(item_id, content=[{"type": "output_audio", "transcript": None}])
        self._emit(
            "conversation.item.truncated",
            item_id=item_id,
            content_index=int(event.get("content_index") or 0),
            audio_end_ms=until_ms,
        )

    def _turn_with(self, item_id: str) -> RunningTurn | None:
        for turn, _ in reversed(self._asked):
            if item_id in turn.messages:
                return turn
        return None

    # --- responses -------------------------------------------------------------------------------

    def _create_response(self, event: JsonMap) -> None:
        options = event.get("response") or {}
        if not isinstance(options, Mapping):
            raise BadRequest("invalid_value", "expected response as an object", "response")
        options = {name: value for name, value in options.items() if value is not None}
        if options.get("conversation") == "none":
            self._respond_aside(options)
            return
        turn = self._turn
        if turn is not None and turn.responds:
            raise BadRequest(ACTIVE, f"Conversation already has an active response: {turn.response.id}")
        if turn is not None and turn.suspended and not self._new_texts():
            self._unasked.clear()
            turn.go_on(self._response(options))
            return
        self._ask(options)

    def _new_texts(self) -> list[str]:
        return [text_of(item) for item in self._new_items() if item.get("role") == "user"]

    def _new_items(self) -> list[JsonMap]:
        return [item for item in self.items if item["id"] in self._unasked]

    def _ask(self, options: Mapping[str, Any]) -> None:
        """Ask for a turn; the user messages since the last one are its input."""
        self._drop_deleted_turns()
        messages = messages_of(self._new_items())
        question = len(messages)
        while question and messages[question - 1]["role"] == "user":
            question -= 1
        if not self._asked and question:
            self._port.seed(messages[:question])
        text = "\n".join(str(message["content"]) for message in messages[question:])
        user_items = [item["id"] for item in self._new_items() if item.get("role") == "user"]
        self._unasked.clear()
        turn = RunningTurn(InputId(new_id("in")), self._response(options))
        self._begin(turn, user_items)
        if self._speech.pending and not text:
            self._speech.pending = False
            self._port.act(InputCommit(id=turn.input_id))
        else:
            self._port.act(self._question(turn.input_id, text, options))

    def _begin(self, turn: RunningTurn, user_items: list[str]) -> None:
        self._turn = turn
        self._asked.append((turn, user_items))
        del self._asked[:-MAX_TURNS]

    def _question(self, input_id: InputId, text: str, options: Mapping[str, Any]) -> InputText:
        chosen = {name: options[name] for name in ("instructions", "tools") if name in options}
        return InputText(
            id=input_id, text=text[:MAX_INPUT_CHARS], on_busy="interrupt", metadata=chosen or None
        )

    def _drop_deleted_turns(self) -> None:
        """Drop turns from the end whose user messages have all been deleted."""
        first: TurnId | None = None
        while self._asked:
            turn, user_items = self._asked[-1]
            if not user_items or any(item_id in self.items for item_id in user_items):
                break
            first = turn.turn_id or first
            self._asked.pop()
        if first is not None:
            self._port.act(SessionRewind(id=RewindId(new_id("rw")), turn_id=first))

    def _response(self, options: Mapping[str, Any]) -> Response:
        session = self._session_of(options)
        return Response(self._emit, session, self.items, self._conversation_id, options.get("metadata"))

    def _session_of(self, options: Mapping[str, Any]) -> JsonMap:
        chosen = {name: options[name] for name in ("max_output_tokens",) if name in options}
        return {**self.session, **chosen}

    def _respond_aside(self, options: Mapping[str, Any]) -> None:
        """Respond outside of the conversation, from the client's named items."""
        given = options.get("input")
        if given is None:
            chosen = list(self.items)
        elif isinstance(given, list):
            chosen = [self._referred(entry) for entry in given]
        else:
            raise BadRequest("invalid_value", "expected input as a list of items", "response.input")
        messages = messages_of(chosen)
        question = messages.pop() if messages and messages[-1]["role"] == "user" else {"content": ""}
        response = Response(self._emit, self._session_of(options), None, None, options.get("metadata"))
        turn = RunningTurn(InputId(new_id("in")), response)
        said = [text_of(item) for item in chosen if item.get("role") == "system"]
        texts = [str(options.get("instructions", self.session["instructions"]) or ""), *said]
        instructions = "\n\n".join(text for text in texts if text)
        asked = {"tools": self.session["tools"], **options, "instructions": instructions}
        self._asides = [aside for aside in self._asides if not aside.ended]
        self._asides.append(turn)
        self._port.aside(messages, self._question(turn.input_id, str(question["content"]), asked), turn)

    def _referred(self, entry: Any) -> JsonMap:
        if isinstance(entry, Mapping) and entry.get("type") == "item_reference":
            return self.items.get(str(entry.get("id")))
        return checked_item(entry)

    def _cancel(self, event: JsonMap) -> None:
        response_id = event.get("response_id")
        for turn in [*([self._turn] if self._turn is not None else []), *self._asides]:
            if turn.responds and (
                turn.response.id == response_id or (response_id is None and turn is self._turn)
            ):
                self._interrupt(turn, None)
                return
        raise BadRequest(NOT_ACTIVE, "Cancellation failed: no active response found")

    def _interrupt(self, turn: RunningTurn, played: Played | None) -> None:
        if turn in self._asides:
            turn.cut()
            return
        interrupt_id = InterruptId(new_id("int"))
        self._port.act(Interrupt(id=interrupt_id, input_id=turn.input_id, played=played))

    # --- sound -----------------------------------------------------------------------------------

    def _said(self, item_id: str, input_id: InputId | None) -> None:
        """Take a transcript: the input of an own turn, or of the next response."""
        if input_id is None:
            self._unasked.append(item_id)
            return
        self._begin(RunningTurn(input_id, self._response({})), [item_id])

    def _ignore(self, event: JsonMap) -> None:
        pass

    # --- to the client ---------------------------------------------------------------------------

    def take(self, event: ServerEvent) -> None:
        """Take an event of the session."""
        if self._speech.take(event):
            return
        for turn, _ in reversed(self._asked[-MAX_OPEN:]):
            if _is_of(event, turn):
                if turn.take(event):
                    turn.go_on(self._response({}))
                return

    def _emit(self, kind: str, **fields: Any) -> None:
        self._port.send({"type": kind, "event_id": f"event_{next(self._numbers)}", **fields})

    def _refuse(self, event: JsonMap, code: str, message: str, param: str | None = None) -> None:
        event_id = event.get("event_id")
        given = event_id if isinstance(event_id, str) else None
        self._emit("error", error=error_object(code, message, given, param=param))


def _is_of(event: ServerEvent, turn: RunningTurn) -> bool:
    """Return whether an event belongs to a turn."""
    input_id = getattr(event, "input_id", None)
    if input_id is not None:
        return bool(input_id == turn.input_id)
    return turn.turn_id is not None and getattr(event, "turn_id", None) == turn.turn_id

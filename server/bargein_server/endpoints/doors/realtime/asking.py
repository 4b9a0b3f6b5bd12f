"""Responses of a Realtime conversation as turns of a bargein session.

User messages since the last response become the input of the next turn. A deleted user message drops its turn
when no later one is left, before the next turn is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bargein_protocol import (
    Attachment,
    CallId,
    ClientEvent,
    InputCommit,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    Played,
    RewindId,
    ServerEvent,
    SessionRewind,
    ToolDecision,
    ToolOutput,
    TurnId,
)
from bargein_protocol.open_values import open_value_fault
from bargein_protocol.types import MAX_INPUT_CHARS

from ....core.history import Message
from .configuration import checked_options
from .items import Items
from .requests import BadRequest, checked_item, images_of, messages_of, text_of
from .response import Emit, Response
from .shapes import JsonMap, new_id
from .turns import RunningTurn

MAX_TURNS = 500
"""Older turns cannot be dropped or truncated any more."""
MAX_OPEN = 8
"""Turns that may still get events: the current one, and those that it has superseded."""

NOT_ACTIVE = "response_cancel_not_active"
ACTIVE = "conversation_already_has_active_response"

_FOR_THE_AGENT = ("instructions", "tools", "tool_choice", "max_output_tokens")
"""Options of a response that its agent reads as metadata of the input."""


class Agenda(Protocol):
    """The part of the connection that gives turns to the session."""

    def act(self, event: ClientEvent) -> None:
        """Give an event to the session."""
        ...

    def known(self) -> list[str]:
        """Return the user's texts that the session had before this connection."""
        ...

    def seed(self, messages: Sequence[Message]) -> None:
        """Set the messages before the first turn."""
        ...

    def aside(self, messages: list[Message], question: InputText, turn: RunningTurn) -> None:
        """Ask in a session of its own, whose events go to `turn`."""
        ...


class Asking:
    """Turns of one connection.

    Args:
        agenda: The connection.
        items: The conversation.
        emit: Sends an event.
        conversation_id: The id of the conversation.

    Attributes:
        session: The configuration; set before anything is asked.
        committed: Whether the client has committed sound that no turn has answered.
    """

    def __init__(self, agenda: Agenda, items: Items, emit: Emit, conversation_id: str) -> None:
        self.session: JsonMap = {}
        self.committed = False
        self._agenda = agenda
        self._items = items
        self._emit = emit
        self._conversation_id = conversation_id
        self._turn: RunningTurn | None = None
        self._asides: list[RunningTurn] = []
        self._unasked: dict[str, None] = {}  # ids of items since the last turn
        self._asked: list[tuple[RunningTurn, list[str]]] = []  # turns, with the ids of their user items

    # --- items -----------------------------------------------------------------------------------

    def add(self, item_id: str) -> None:
        """Take a new item; a message of the user is an input."""
        self._unasked[item_id] = None
        if len(self._unasked) > 2 * len(self._items):  # items that were removed or forgotten
            self._unasked = {each: None for each in self._unasked if each in self._items}

    def give_output(self, call_id: str, output: str) -> bool:
        """Give a call's output to the turn that waits for it; return whether any."""
        turn = self._turn
        if turn is None or not turn.waits_for(call_id):
            return False
        turn.answered(call_id)
        self._agenda.act(ToolOutput(call_id=CallId(call_id), output=output))
        return True

    def decide(self, item_id: str, allow: bool) -> None:
        """Give the answer to a question for consent to its turn."""
        call_id = self._turn.decided(item_id) if self._turn is not None else None
        if call_id is not None:
            self._agenda.act(ToolDecision(call_id=call_id, allow=allow))

    def turn_with(self, item_id: str) -> RunningTurn | None:
        """Return the turn that wrote a message, None if it is forgotten."""
        for turn, _ in reversed(self._asked):
            if item_id in turn.messages:
                return turn
        return None

    # --- responses -------------------------------------------------------------------------------

    def create(self, event: JsonMap) -> None:
        """Ask for a response.

        Raises:
            BadRequest: One is active, or an option is wrong.
        """
        options = checked_options(event.get("response"))
        if options.get("conversation") == "none":
            self._respond_aside(options)
            return
        turn = self._turn
        if turn is not None and turn.responds:
            raise BadRequest(ACTIVE, f"Conversation already has an active response: {turn.response.id}")
        if turn is not None and turn.suspended and not self._new_user_items():
            self._unasked.clear()
            turn.go_on(self._response(options))
            return
        self._ask(options)

    def _new_items(self) -> list[JsonMap]:
        return [item for item in self._items if item["id"] in self._unasked]

    def _new_user_items(self) -> list[JsonMap]:
        return [item for item in self._new_items() if item.get("role") == "user"]

    def _ask(self, options: Mapping[str, Any]) -> None:
        """Ask for a turn; the user messages since the last one are its input."""
        self._drop_deleted_turns()
        if not self._asked:
            self._leave_out_known()
        items = self._new_items()
        messages = messages_of(items)
        split = len(messages)
        while split and messages[split - 1]["role"] == "user":
            split -= 1
        text = "\n".join(str(message["content"]) for message in messages[split:])
        user_items = [item for item in items if item.get("role") == "user"]
        images = images_of(user_items[len(user_items) - (len(messages) - split) :])
        input_id = InputId(new_id("in"))
        question = self._question(input_id, text, options, images)
        if not self._asked and split and not self._agenda.known():
            self._agenda.seed(messages[:split])
        self._unasked.clear()
        self._begin(RunningTurn(input_id, self._response(options)), [item["id"] for item in user_items])
        if self.committed and not text:
            self.committed = False
            self._agenda.act(InputCommit(id=input_id))
        else:
            self._agenda.act(question)

    def _leave_out_known(self) -> None:
        """Leave out the items that the session has, for clients that repeat all."""
        known = self._agenda.known()
        mine = self._new_user_items()
        if known and [text_of(item).strip() for item in mine[: len(known)]] == [
            each.strip() for each in known
        ]:
            last = mine[len(known) - 1]["id"]
            for item in self._new_items():
                self._unasked.pop(item["id"], None)
                if item["id"] == last:
                    break

    def _begin(self, turn: RunningTurn, user_items: list[str]) -> None:
        self._turn = turn
        self._asked.append((turn, user_items))
        del self._asked[:-MAX_TURNS]

    def _question(
        self, input_id: InputId, text: str, options: Mapping[str, Any], images: Sequence[Attachment] = ()
    ) -> InputText:
        chosen = {name: options[name] for name in _FOR_THE_AGENT if name in options}
        if chosen.get("tool_choice") == "none":
            chosen["tools"] = []
        question = InputText(
            id=input_id,
            text=text[:MAX_INPUT_CHARS],
            on_busy="interrupt",
            metadata=chosen or None,
            attachments=list(images) or None,
        )
        if (fault := open_value_fault(question)) is not None:
            raise BadRequest("invalid_value", fault, "response")
        return question

    def _drop_deleted_turns(self) -> None:
        """Drop turns from the end whose user messages have all been deleted."""
        first: TurnId | None = None
        while self._asked:
            turn, user_items = self._asked[-1]
            if not user_items or any(item_id in self._items for item_id in user_items):
                break
            first = turn.turn_id or first
            self._asked.pop()
        if first is not None:
            self._agenda.act(SessionRewind(id=RewindId(new_id("rw")), turn_id=first))

    def _response(self, options: Mapping[str, Any]) -> Response:
        session = self._session_of(options)
        return Response(self._emit, session, self._items, self._conversation_id, options.get("metadata"))

    def _session_of(self, options: Mapping[str, Any]) -> JsonMap:
        chosen = {name: options[name] for name in ("max_output_tokens",) if name in options}
        if options.get("output_modalities") == ["text"]:
            chosen["output_modalities"] = ["text"]
        return {**self.session, **chosen}

    def _respond_aside(self, options: Mapping[str, Any]) -> None:
        """Respond outside of the conversation, from the items that a client names."""
        given = options.get("input")
        chosen = list(self._items) if given is None else [self._referred(entry) for entry in given]
        messages = messages_of(chosen)
        said = messages.pop() if messages and messages[-1]["role"] == "user" else {"content": ""}
        system = [text_of(item) for item in chosen if item.get("role") == "system"]
        texts = [str(options.get("instructions", self.session["instructions"]) or ""), *system]
        instructions = "\n\n".join(text for text in texts if text)
        asked = {"tools": self.session["tools"], **options, "instructions": instructions}
        input_id = InputId(new_id("in"))
        images = images_of([item for item in chosen if item.get("role") == "user"][-1:])
        question = self._question(input_id, str(said["content"]), asked, images)
        response = Response(self._emit, self._session_of(options), None, None, options.get("metadata"))
        turn = RunningTurn(input_id, response)
        self._asides = [aside for aside in self._asides if not aside.ended]
        self._asides.append(turn)
        self._agenda.aside(messages, question, turn)

    def _referred(self, entry: Any) -> JsonMap:
        if isinstance(entry, Mapping) and entry.get("type") == "item_reference":
            return self._items.get(str(entry.get("id")))
        return checked_item(entry)

    def cancel(self, event: JsonMap) -> None:
        """Cut a response.

        Raises:
            BadRequest: None is active.
        """
        response_id = event.get("response_id")
        for turn in [*([self._turn] if self._turn is not None else []), *self._asides]:
            if turn.responds and (
                turn.response.id == response_id or (response_id is None and turn is self._turn)
            ):
                self.interrupt(turn, None)
                return
        raise BadRequest(NOT_ACTIVE, "Cancellation failed: no active response found")

    def interrupt(self, turn: RunningTurn, played: Played | None) -> None:
        """Cut a turn."""
        if turn in self._asides:
            turn.cut()
            return
        interrupt_id = InterruptId(new_id("int"))
        self._agenda.act(Interrupt(id=interrupt_id, input_id=turn.input_id, played=played))

    # --- from the session ------------------------------------------------------------------------

    def said(self, item_id: str, input_id: InputId | None) -> None:
        """Take the user's words: the input of a turn, or of the next response."""
        if input_id is None:
            self.add(item_id)
            return
        self._begin(RunningTurn(input_id, self._response({})), [item_id])

    def take(self, event: ServerEvent) -> None:
        """Take an event of the session."""
        for turn, _ in reversed(self._asked[-MAX_OPEN:]):
            if _is_of(event, turn):
                if turn.take(event):
                    turn.go_on(self._response({}))
                return


def _is_of(event: ServerEvent, turn: RunningTurn) -> bool:
    """Return whether an event belongs to a turn."""
    input_id = getattr(event, "input_id", None)
    if input_id is not None:
        return bool(input_id == turn.input_id)
    return turn.turn_id is not None and getattr(event, "turn_id", None) == turn.turn_id

"""A Realtime session: client events in, a session's events out. No I/O.

The conversation of the protocol is a list of items, which its client edits at will. The one of bargein is a
list of turns with what was heard; `asking` makes turns of items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Protocol

from bargein_protocol import Attachment, Playback, Played, ServerEvent, SessionUpdate
from bargein_protocol.open_values import open_value_fault

from .asking import Agenda, Asking
from .configuration import first_session, patched
from .items import Items, NoSuchItem
from .requests import BadRequest, checked_item, images_of, text_of
from .shapes import JsonMap, error_object
from .speech import Ears, Speech

NO_ITEM = "item_retrieve_invalid_item_id"
DUPLICATE = "item_create_duplicate_item_id"

MAX_AUDIO_END_MS = 24 * 3600 * 1000
"""Longest sound of a message that can be truncated."""


class Port(Agenda, Ears, Protocol):
    """The connection of a dialogue, and the session behind it."""

    def takes(self, images: Sequence[Attachment]) -> bool:
        """Return whether the agent takes images of these types."""
        ...

    def send(self, event: JsonMap) -> None:
        """Send an event to the client."""
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
        self.session = first_session(session_id, model, port.hears)
        self.items = Items()
        self._port = port
        self._numbers = count(1)
        self._asking = Asking(port, self.items, self._emit, "conv_" + session_id)
        self._speech = Speech(port, self.items, self._emit, self._asking)
        self._handlers: dict[str, Callable[[JsonMap], None]] = {
            "session.update": self._update,
            "conversation.item.create": self._create_item,
            "conversation.item.retrieve": self._retrieve_item,
            "conversation.item.delete": self._delete_item,
            "conversation.item.truncate": self._truncate_item,
            "response.create": self._asking.create,
            "response.cancel": self._asking.cancel,
            "input_audio_buffer.append": self._speech.append,
            "input_audio_buffer.commit": lambda event: self._speech.commit(),
            "input_audio_buffer.clear": lambda event: self._speech.clear(),
            "output_audio_buffer.clear": self._ignore,
        }

    def start(self, patch: JsonMap | None = None) -> None:
        """Send `session.created`, after a configuration that came with the key."""
        self._configure(patch or {})
        self._emit("session.created", session=self.session)

    # --- from the client -------------------------------------------------------------------------

    def receive(self, event: JsonMap) -> None:
        """Take an event of the client."""
        handler = self._handlers.get(str(event.get("type")))
        if handler is None:
            self.refuse(event, "unknown_event", f"expected a known type, got {str(event.get('type'))[:80]}")
            return
        try:
            handler(event)
        except BadRequest as error:
            self.refuse(event, error.code, str(error), error.param)
        except NoSuchItem as error:
            self.refuse(event, NO_ITEM, f"there is no item {str(error)[:100]}", "item_id")

    def _update(self, event: JsonMap) -> None:
        self._configure(event.get("session"))
        self._emit("session.updated", session=self.session)

    def _configure(self, patch: Any) -> None:
        session = patched(self.session, patch)
        values = self._values(session)
        self._speech.configure(session)
        self.session = self._asking.session = session
        self._port.act(values)

    def _values(self, session: JsonMap) -> SessionUpdate:
        """Return instructions, system messages and tools as the agent's metadata.

        Raises:
            BadRequest: They are too large.
        """
        said = [text_of(item) for item in self.items if item.get("role") == "system"]
        texts = [str(session["instructions"] or ""), *said]
        choice, most = session["tool_choice"], session["max_output_tokens"]
        values = SessionUpdate(
            metadata={
                "instructions": "\n\n".join(text for text in texts if text) or None,
                "tools": (session["tools"] or None) if choice != "none" else None,
                "tool_choice": choice if choice != "auto" else None,
                "max_output_tokens": most if most != "inf" else None,
            }
        )
        if (fault := open_value_fault(values)) is not None:
            raise BadRequest("invalid_value", fault, "session")
        return values

    # --- items -----------------------------------------------------------------------------------

    def _create_item(self, event: JsonMap) -> None:
        item = checked_item(event.get("item"))
        if item["id"] in self.items:
            raise BadRequest(DUPLICATE, f"an item {item['id'][:100]} exists already", "item.id")
        if not self._port.takes(images_of([item])):
            raise BadRequest("invalid_value", "the agent takes no images of this type", "item.content")
        given = event.get("previous_item_id")
        previous = self.items.add(item, None if given is None else str(given))
        self._emit("conversation.item.added", previous_item_id=previous, item=item)
        self._emit("conversation.item.done", previous_item_id=previous, item=item)
        kind = item["type"]
        if item.get("role") == "system":
            self._port.act(self._values(self.session))
        elif kind == "function_call_output" and self._asking.give_output(item["call_id"], item["output"]):
            return
        elif kind == "mcp_approval_response":
            self._asking.decide(item["approval_request_id"], bool(item["approve"]))
        else:
            self._asking.add(item["id"])

    def _retrieve_item(self, event: JsonMap) -> None:
        self._emit("conversation.item.retrieved", item=self.items.get(str(event.get("item_id"))))

    def _delete_item(self, event: JsonMap) -> None:
        item_id = str(event.get("item_id"))
        was_system = self.items.get(item_id).get("role") == "system"
        self.items.remove(item_id)
        self._emit("conversation.item.deleted", item_id=item_id)
        if was_system:
            self._port.act(self._values(self.session))

    def _truncate_item(self, event: JsonMap) -> None:
        item_id, until_ms = str(event.get("item_id")), event.get("audio_end_ms")
        if type(until_ms) is not int or not 0 <= until_ms <= MAX_AUDIO_END_MS:
            raise BadRequest("invalid_value", "expected audio_end_ms as an integer from 0 on", "audio_end_ms")
        if item_id in self.items:  # one of an earlier connection is no error: Pipecat would end its session
            self._truncate(self.items.get(item_id), until_ms)
        # A message has one part, whichever the client names.
        self._emit("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=until_ms)

    def _truncate(self, item: JsonMap, until_ms: int) -> None:
        item_id = item["id"]
        if item.get("role") != "assistant":
            raise BadRequest("invalid_value", "only messages of the assistant can be truncated", "item_id")
        turn = self._asking.turn_with(item_id)
        spoken = any(part.get("type") == "output_audio" for part in item["content"])
        if turn is not None and turn.responds and turn.response.message_id == item_id:
            # Some clients take a truncation for a cancel: the rest would never be heard.
            speaks = self.session["output_modalities"] == ["audio"]
            self._asking.interrupt(turn, Played(audio_ms=until_ms) if speaks else None)
        elif turn is not None and turn.turn_id is not None and spoken:
            self._port.act(Playback(turn_id=turn.turn_id, audio_ms=until_ms))
        if spoken:
            self.items.update(item_id, content=[{"type": "output_audio", "transcript": None}])

    def _ignore(self, event: JsonMap) -> None:
        pass

    # --- to the client ---------------------------------------------------------------------------

    def take(self, event: ServerEvent) -> None:
        """Take an event of the session."""
        if not self._speech.take(event):
            self._asking.take(event)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._port.send({"type": kind, "event_id": f"event_{next(self._numbers)}", **fields})

    def refuse(self, event: JsonMap, code: str, message: str, param: str | None = None) -> None:
        """Answer an event with an error."""
        event_id = event.get("event_id")
        given = event_id if isinstance(event_id, str) else None
        self._emit("error", error=error_object(code, message, given, param=param))

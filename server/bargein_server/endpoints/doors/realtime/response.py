"""One response of the Realtime protocol, made from the events of a turn.

Every item that is announced is closed, and nothing of a response follows its `response.done`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from bargein_protocol import TurnEnded, Usage

from ..translation import failure_text
from .items import Items
from .shapes import (
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    JsonMap,
    approval_item,
    call_item,
    message_item,
    new_id,
    response_object,
    usage_object,
)

Emit = Callable[..., None]
"""Sends an event: its type, and its fields by name."""

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Response:
    """A response while it is written.

    Args:
        emit: Sends an event.
        session: The session's configuration, with what this response overrides.
        items: The items of the conversation; None for a response outside of it.
        conversation_id: The conversation; None for a response outside of it.
        metadata: The client's metadata, which goes back to it.

    Attributes:
        id: The response's id.
        over: Whether `response.done` was sent.
        message_id: The id of the last message, None without one.
    """

    def __init__(
        self,
        emit: Emit,
        session: Mapping[str, Any],
        items: Items | None,
        conversation_id: str | None,
        metadata: Any,
    ) -> None:
        self.id = new_id("resp")
        self.over = False
        self.message_id: str | None = None
        self._emit_event = emit
        self._items = items
        self._speaks = session["output_modalities"] == ["audio"]
        self._object = response_object(self.id, session, conversation_id, metadata)
        self._output: list[JsonMap] = []
        self._open: str | None = None  # the message that is being written
        self._text = ""
        emit("response.created", response=self._object)

    # --- a message -------------------------------------------------------------------------------

    def text(self, text: str) -> None:
        """Write a piece of the answer, or of its transcript."""
        if not text:
            return
        ids = self._part()
        self._text += text
        kind = "response.output_audio_transcript.delta" if self._speaks else "response.output_text.delta"
        self._emit_event(kind, **ids, delta=text)

    def audio(self, audio: bytes) -> None:
        """Write sound of the answer, when the response has sound."""
        if self._speaks and audio:
            self._emit_event(
                "response.output_audio.delta", **self._part(), delta=base64.b64encode(audio).decode()
            )

    def _part(self) -> JsonMap:
        """Open a message unless one is open; return the fields of its part."""
        if self._open is None:
            self._open = self.message_id = new_id("item")
            self._text = ""
            self._announce(message_item(self._open, IN_PROGRESS, []))
            self._emit_event("response.content_part.added", **self._ids(), part=self._part_object())
        return self._ids()

    def _ids(self) -> JsonMap:
        index = len(self._output) - 1
        return {"response_id": self.id, "item_id": self._open, "output_index": index, "content_index": 0}

    def _part_object(self) -> JsonMap:
        return (
            {"type": "audio", "transcript": self._text}
            if self._speaks
            else {"type": "text", "text": self._text}
        )

    def _close_message(self, status: str) -> None:
        if self._open is None:
            return
        ids = self._ids()
        if self._speaks:
            self._emit_event("response.output_audio.done", **ids)
            self._emit_event("response.output_audio_transcript.done", **ids, transcript=self._text)
            content: JsonMap = {"type": "output_audio", "transcript": self._text}
        else:
            self._emit_event("response.output_text.done", **ids, text=self._text)
            content = {"type": "output_text", "text": self._text}
        self._emit_event("response.content_part.done", **ids, part=self._part_object())
        self._complete(message_item(self._open, status, [content]))
        self._open = None

    # --- other items -----------------------------------------------------------------------------

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """Write a call that the client is to run."""
        self._close_message(COMPLETED)
        item_id = new_id("item")
        self._announce(call_item(item_id, call_id, name, "", IN_PROGRESS))
        ids = {
            "response_id": self.id,
            "item_id": item_id,
            "output_index": len(self._output) - 1,
            "call_id": call_id,
        }
        self._emit_event("response.function_call_arguments.delta", **ids, delta=arguments)
        self._emit_event("response.function_call_arguments.done", **ids, name=name, arguments=arguments)
        self._complete(call_item(item_id, call_id, name, arguments, COMPLETED))

    def approval(self, name: str, arguments: str) -> str:
        """Ask whether a tool of the server may run; return the item's id."""
        self._close_message(COMPLETED)
        item = approval_item(new_id("mcpr"), name, arguments)
        self._announce(item)
        self._complete(item)
        return str(item["id"])

    def _announce(self, item: JsonMap) -> None:
        self._output.append(item)
        index = len(self._output) - 1
        self._emit_event("response.output_item.added", response_id=self.id, output_index=index, item=item)
        if self._items is not None:
            previous = self._items.add(item)
            self._emit_event("conversation.item.added", previous_item_id=previous, item=item)

    def _complete(self, item: JsonMap) -> None:
        index = len(self._output) - 1
        self._output[index] = item
        self._emit_event("response.output_item.done", response_id=self.id, output_index=index, item=item)
        if self._items is not None:
            self._items.update(item["id"], **item)
            before = self._items.before(item["id"])
            self._emit_event("conversation.item.done", previous_item_id=before, item=item)

    # --- the end ---------------------------------------------------------------------------------

    def complete(self) -> None:
        """End it, because the client's answer to its calls is needed."""
        self._done(COMPLETED, None, None)

    def end(self, ended: TurnEnded, cancelled_by: str = "client_cancelled") -> None:
        """End it with its turn.

        Args:
            ended: The end.
            cancelled_by: Reason for a cut: `client_cancelled` or `turn_detected`.
        """
        reason = _INCOMPLETE.get(ended.reason)
        if ended.status == "interrupted":
            self._done("cancelled", {"type": "cancelled", "reason": cancelled_by}, ended.usage)
        elif ended.status == "failed":
            self.fail(ended.reason, failure_text(ended.reason), ended.usage)
        elif reason is not None:
            self._done(INCOMPLETE, {"type": INCOMPLETE, "reason": reason}, ended.usage)
        else:
            self._done(COMPLETED, None, ended.usage)

    def fail(self, code: str, message: str, usage: Usage | None = None) -> None:
        """End it with a failure."""
        error = {"type": "server_error", "code": code, "message": message}
        self._done("failed", {"type": "failed", "error": error}, usage)

    def _done(self, status: str, details: JsonMap | None, usage: Usage | None) -> None:
        if self.over:
            return
        self._close_message(COMPLETED if status == COMPLETED else INCOMPLETE)
        self.over = True
        done = {
            **self._object,
            "status": status,
            "status_details": details,
            "output": self._output,
            "usage": usage_object(usage),
        }
        self._emit_event("response.done", response=done)

"""The bodies of requests and answers over HTTP that are not events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .client_events import InputText, Interrupt
from .types import (
    MAX_PENDING,
    ClientInfo,
    Count,
    InputIdField,
    JsonObject,
    Label,
    Milliseconds,
    OnBusy,
    Reason,
    Resume,
    Text,
    TurnStatus,
    Usage,
    UserText,
)

MAX_BATCH_INPUTS = 65_536


class TurnRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /v1/turns`: an `input.text`, and the `session.open` that it begins with.

    Args:
        text: What the user said.
        id: Made by the client, so that a resend is harmless; None to have the server make one.
        on_busy: As in `input.text`.
        metadata: As in `input.text`.
        resume: As in `session.open`; the header `Last-Event-ID` takes the place of its cursor.
        pending: As in `session.open`.
        auth: As in `session.open`.
        client: As in `session.open`.
    """

    text: UserText
    id: InputIdField | None = None
    on_busy: OnBusy | None = None
    metadata: JsonObject | None = None
    resume: Resume | None = None
    pending: Annotated[list[InputText | Interrupt], Meta(max_length=MAX_PENDING - 1)] | None = None
    auth: Annotated[str, Meta(max_length=8192)] | None = None
    client: ClientInfo | None = None


class BatchInput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input of a batch; it gets a session of its own.

    Args:
        text: What the user said.
        id: Comes back with the result; made by the client, and need not be unique.
        metadata: For the agent.
    """

    text: UserText
    id: Label = ""
    metadata: JsonObject | None = None


class BatchRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /v1/batch`.

    Args:
        inputs: What to answer.
        concurrency: How many at a time; None for what the server allows, which is also the most.
        item_timeout_ms: How long each may take; None for what the server allows, which is also the most.
        timeout_ms: How long all of them may take; likewise.
    """

    inputs: Annotated[list[BatchInput], Meta(min_length=1, max_length=MAX_BATCH_INPUTS)]
    concurrency: Annotated[int, Meta(ge=1, le=MAX_BATCH_INPUTS)] | None = None
    item_timeout_ms: Milliseconds | None = None
    timeout_ms: Milliseconds | None = None


class BatchResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one input of a batch.

    Args:
        index: Its place in the list, from 0.
        id: The input's.
        status: How its turn ended; `failed` for one that got no turn.
        reason: As in `turn.ended`, or the code of the rejection, or `timeout`.
        retryable: Whether the same input may succeed when sent again.
        text: What the agent's own voice said, all or as much as there was.
        usage: What its model calls used.
    """

    index: Count
    id: Label = ""
    status: TurnStatus
    reason: Reason
    retryable: bool = False
    text: Text = ""
    usage: Usage | None = None


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The answer to a batch as one JSON object.

    Args:
        results: One for each input, in order.
    """

    results: list[BatchResult]

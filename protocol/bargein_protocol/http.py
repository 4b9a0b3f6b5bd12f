"""Bodies of HTTP requests and responses that are not events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from .client_events import InputText, Interrupt
from .types import (
    MAX_ATTACHMENTS,
    MAX_PENDING,
    MAX_TOOLS,
    Attachment,
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
    """Body of `POST /v1/turns`: an `input.text` with its `session.open`.

    Args:
        text: The user's text.
        id: The client's id, which makes a resend harmless; None for one of the server.
        on_busy: As in `input.text`.
        metadata: As in `input.text`.
        attachments: As in `input.text`.
        resume: As in `session.open`; the header `Last-Event-ID` replaces its cursor.
        pending: As in `session.open`.
        auth: As in `session.open`.
        client: As in `session.open`.
    """

    text: UserText
    id: InputIdField | None = None
    on_busy: OnBusy | None = None
    metadata: JsonObject | None = None
    attachments: Annotated[list[Attachment], Meta(max_length=MAX_ATTACHMENTS)] | None = None
    resume: Resume | None = None
    pending: Annotated[list[InputText | Interrupt], Meta(max_length=MAX_PENDING - 1)] | None = None
    auth: Annotated[str, Meta(max_length=8192)] | None = None
    client: ClientInfo | None = None


class BatchInput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input of a batch, which gets its own session.

    Args:
        text: The user's text.
        id: An id for the result; it need not be unique.
        metadata: Parameters for the agent.
        attachments: As in `input.text`.
    """

    text: UserText
    id: Label = ""
    metadata: JsonObject | None = None
    attachments: Annotated[list[Attachment], Meta(max_length=MAX_ATTACHMENTS)] | None = None


class BatchRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of `POST /v1/batch`.

    Args:
        inputs: The inputs.
        concurrency: Number of inputs that run at a time; None for the server's limit.
        item_timeout_ms: Timeout of each input; None for the server's limit.
        timeout_ms: Timeout of the batch; None for the server's limit.
        allow_tools: Whether tool calls that need the client's consent may run. A tool that runs in the
            client fails in either case.
    """

    inputs: Annotated[list[BatchInput], Meta(min_length=1, max_length=MAX_BATCH_INPUTS)]
    concurrency: Annotated[int, Meta(ge=1, le=MAX_BATCH_INPUTS)] | None = None
    item_timeout_ms: Milliseconds | None = None
    timeout_ms: Milliseconds | None = None
    allow_tools: bool = False


class BatchResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Result of one input of a batch.

    Args:
        index: Position of the input in the list, from 0.
        id: The id of the input.
        status: Status of the turn; `failed` for an input without a turn.
        reason: As in `turn.ended`, or the code of the rejection, or `timeout`.
        retryable: Whether the same input may succeed when sent again.
        text: Text of the main lane, as far as there is any.
        usage: Tokens of its model calls.
        refused_tools: Names of the tools that were not allowed to run, each once.
    """

    index: Count
    id: Label = ""
    status: TurnStatus
    reason: Reason
    retryable: bool = False
    text: Text = ""
    usage: Usage | None = None
    refused_tools: Annotated[list[Label], Meta(max_length=MAX_TOOLS)] = field(default_factory=list)


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """Response to a batch as one JSON object.

    Args:
        results: The results of all inputs, in order.
    """

    results: list[BatchResult]

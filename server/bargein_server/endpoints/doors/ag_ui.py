"""AG-UI: runs for CopilotKit, assistant-ui and other clients.

A thread is a session, a run a turn or the rest of one. A closed request interrupts: the protocol has no other
way to stop, and its clients cannot resume a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

from msgspec import Struct
from starlette.routing import BaseRoute, Route

from bargein_protocol import CallId, InputText, ToolDecision, ToolOutput

from ...guard.admission import Admission, Refused
from ...hosting.registry import SessionRegistry
from ..call import Call
from ..endpoint import HttpEndpoint
from .ag_ui_events import Run
from .conversation import (
    answer_calls,
    ask,
    last_turn,
    new_input_id,
    open_session,
    stream,
)
from .files import ag_ui_files, attachments_of
from .messages import MessageCall, earlier_messages, text_of

RUN_PATH = "/v1/ag-ui"


class RunMessage(Struct, rename="camel"):
    """A message of a run.

    Args:
        content: A text, or parts of text and media; any value in messages about activities.
        error: Failure of a tool of the client.
    """

    role: str
    id: str = ""
    content: Any = None
    tool_calls: list[MessageCall] | None = None
    tool_call_id: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """Text of the message."""
        return text_of(self.content)


class ResumeEntry(Struct, rename="camel"):
    """Answer to an interrupt that ended a run.

    Args:
        payload: The answer.
    """

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class RunInput(Struct, rename="camel"):
    """Body of a request; `RunAgentInput` of the protocol.

    Args:
        protocol_version: Version of the client; None for one before 1.0.
        tools: Tools of the client, which the agent gets as metadata.
        context: Facts of the application, likewise.
        state: The client's state, likewise.
        forwarded_props: Any values of the application, likewise.
    """

    thread_id: str
    run_id: str
    messages: list[RunMessage]
    protocol_version: str | None = None
    tools: list[Any] | None = None
    context: list[Any] | None = None
    state: Any = None
    forwarded_props: Any = None
    resume: list[ResumeEntry] | None = None


def routes(sessions: Callable[[], SessionRegistry], admission: Admission, name: str) -> Iterator[BaseRoute]:
    """Yield the route; `name` is that of the agent."""
    yield Route(RUN_PATH, HttpEndpoint(sessions, admission, run), methods=["POST"])


async def run(call: Call) -> None:
    """`POST /v1/ag-ui`: answer the last message, or go on with a turn."""
    await call.authenticate(None)  # before the body is read
    asked = await call.decoded(RunInput, call.sessions.settings.max_conversation_bytes)
    answers = _answers(asked)
    last = asked.messages[-1] if asked.messages else None
    if not answers and (last is None or last.role != "user"):
        raise Refused(422, "expected a message of the user at the end, a result of a tool, or resume")
    host = await open_session(call, asked.thread_id)
    current = asked.protocol_version is not None
    translator: Callable[..., Run] = partial(Run, asked.thread_id, asked.run_id, current)
    if answers:
        turn = last_turn(host)
        after = None if turn is None else host.core.outside.start_of(turn.input.id)
        if turn is None or after is None or not answer_calls(host, answers):
            raise Refused(409, "no call waits for this answer: its turn is over")
        input_id, answered = turn.input.id, [answer.call_id for answer in answers]
    else:
        assert last is not None
        files = attachments_of(ag_ui_files(last.content), call.sessions.attachments)
        input_id = new_input_id("ag-ui")
        question = InputText(id=input_id, text=last.text, metadata=_metadata(asked), attachments=files)
        after = ask(call, host, earlier_messages(asked.messages, ag_ui_files), question)
        answered = []
    waits = host.core.outside.waits_for
    await stream(
        call, host, input_id, after, translator(waits, answered), {}, interrupts=True, frame=b"data: %s\n\n"
    )


def _answers(asked: RunInput) -> list[ToolOutput | ToolDecision]:
    answers: list[ToolOutput | ToolDecision] = [
        ToolDecision(
            call_id=CallId(entry.interrupt_id), allow=entry.status == "resolved" and allows(entry.payload)
        )
        for entry in asked.resume or ()
        if 0 < len(entry.interrupt_id) <= 128
    ]
    for message in reversed(asked.messages):
        if message.role != "tool":
            break
        if message.tool_call_id and len(message.tool_call_id) <= 128:
            call_id = CallId(message.tool_call_id)
            if message.error is not None:
                answers.append(ToolOutput(call_id=call_id, error=message.error[:4096]))
            else:
                answers.append(ToolOutput(call_id=call_id, output=message.text))
    return answers


def allows(payload: object) -> bool:
    """Return whether the answer to a request for consent allows the call.

    Only a clear answer does.
    """
    if isinstance(payload, dict):
        given = [payload.get(name) for name in ("approved", "accepted", "allow", "confirmed")]
        return True in given and False not in given
    return payload is True


def _metadata(asked: RunInput) -> dict[str, Any] | None:
    instructions = [each.text for each in asked.messages if each.role in ("system", "developer")]
    metadata = {
        "instructions": "\n\n".join(instructions),
        "state": asked.state,
        "context": asked.context,
        "tools": asked.tools,
        "forwardedProps": asked.forwarded_props,
    }
    return {name: value for name, value in metadata.items() if value} or None

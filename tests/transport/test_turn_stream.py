"""Turn streams: one turn in another format, beside other connections of its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from bargein_protocol import (
    CallId,
    Code,
    Data,
    InputId,
    InputText,
    StepEnded,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolResult,
    ToolRunning,
    TurnEnded,
    TurnEvent,
    TurnFold,
    TurnId,
    TurnStarted,
)
from bargein_server import Output, Turn
from bargein_server.guard.admission import Caller
from bargein_server.hosting.host import SessionHost
from bargein_server.hosting.own_ids import Unavailable, own_session_id
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.transport.replayed_turn import events_of
from bargein_server.transport.turn_stream import TurnStream
from memory_client import Line, serve
from waiting import until


class Socket:
    """A socket in memory (`hosting.ports.Wire`)."""

    def __init__(self) -> None:
        self.writable = True
        self.written = b""
        self.closed: Code | None = None

    def write(self, frames: Sequence[bytes]) -> None:
        assert self.closed is None
        self.written += b"".join(frames)

    def close(self, code: Code) -> None:
        self.closed = code

    def abort(self) -> None:
        self.closed = Code(0, "aborted", "", "stop")  # type: ignore[arg-type]


class Words:
    """A translator to plain text: the text, and the end in brackets."""

    heartbeat = b"."

    def __init__(self) -> None:
        self.over = False
        self.fails = False

    def read(self, event: TurnEvent) -> Iterator[bytes]:
        if self.fails:
            raise RuntimeError("a fault of the translator")
        if isinstance(event, TextDelta):
            yield event.text.encode()
        elif isinstance(event, TurnEnded):
            self.over = True
            yield f"[{event.reason}]".encode()

    def cut(self, code: Code) -> Iterator[bytes]:
        yield f"<{code.name}>".encode()


class Reader:
    """A client that reads one turn."""

    def __init__(self, sessions: SessionRegistry, host: SessionHost, text: str, **options: bool) -> None:
        input_id = InputId(f"in-{text}")
        host.act(host.core.side_channel.request, InputText(id=input_id, text=text))
        self.socket, self.words, self.host = Socket(), Words(), host
        caller = Caller(None, True, lambda credential: None)
        self.stream = TurnStream(self.socket, self.words, sessions, caller, host, input_id, **options)
        start = host.core.outside.start_of(input_id)
        assert start is not None
        self.stream.start(start)

    @property
    def text(self) -> str:
        return self.socket.written.decode()


async def opened(sessions: SessionRegistry, own_id: str = "mine") -> SessionHost:
    return await sessions.own_ids.open(None, own_id, "")


async def counting(turn: Turn) -> AsyncIterator[Output]:
    """Counts until it is interrupted."""
    n = 0
    while True:
        n += 1
        yield f"{turn.text}{n} "
        await asyncio.sleep(0)


async def brief(turn: Turn) -> AsyncIterator[Output]:
    """Answers with a word and the number of messages before."""
    yield f"{turn.text}:{len(turn.history.messages())}"


async def test_a_turn_is_read_whole_and_counts_as_heard() -> None:
    """The next turn's history has it."""
    sessions = serve(brief)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: one.socket.closed, "the end of the stream")
    assert one.text == "a:1[completed]"
    two = Reader(sessions, host, "b")
    await until(lambda: two.socket.closed, "the end of the stream")
    assert two.text == "b:3[completed]"
    assert host.core.side_channel.messages()[1] == {"role": "assistant", "content": "a:1"}
    assert host.connection is None
    assert not host.followers


async def test_a_superseded_turn_ends_on_its_own_stream() -> None:
    """The newer turn does not take the end away from the older stream."""
    sessions = serve(counting)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: "a3" in one.text, "some output")
    two = Reader(sessions, host, "b")
    assert one.text.endswith("[superseded]")
    assert one.socket.closed is not None
    await until(lambda: "b3" in two.text, "output of the newer turn")
    assert two.text.startswith("b1 b2")
    assert "a" not in two.text


async def test_a_client_that_leaves_interrupts_if_asked() -> None:
    """The turn ends in that step, and its heard part is what was written."""
    sessions = serve(counting)
    host = await opened(sessions)
    one = Reader(sessions, host, "a", interrupts=True)
    await until(lambda: "a3" in one.text, "some output")
    one.stream.disconnected()
    assert not host.core.busy
    [_, answer] = host.core.side_channel.messages()
    assert str(answer["content"]).removesuffix(" [interrupted]") == one.text.rstrip()


async def test_a_client_that_leaves_does_not_interrupt_otherwise() -> None:
    """The turn goes on as after a lost connection, and is read again from its start."""
    sessions = serve(counting)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: "a3" in one.text, "some output")
    one.stream.disconnected()
    assert host.core.busy
    again = Reader(sessions, host, "a")  # the same input again, which is a resend
    await until(lambda: len(again.text) > len(one.text), "more output")
    assert again.text.startswith(one.text)


async def test_two_readers_of_one_turn() -> None:
    """The first drives; the second reads beside it, and takes over when the first leaves."""
    sessions = serve(counting)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    two = Reader(sessions, host, "a")
    assert two.stream.following
    assert host.connection is one.stream
    await until(lambda: "a9 " in two.text, "output for both")
    one.stream.disconnected()
    assert host.connection is two.stream
    before = two.text
    await until(lambda: len(two.text) > len(before) + 20, "output for the second")
    numbers = [int(word.removeprefix("a")) for word in two.text.split()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_newer_connection_does_not_cut_a_stream() -> None:
    """A client of bargein's own protocol takes the session over; the stream reads on beside it."""
    sessions = serve(counting)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: "a3" in one.text, "some output")
    line = Line(sessions)
    one.stream.replaced()
    assert one.stream.following
    host.connection = line.connection
    line.connection._host = host
    host.core.outside.attach(line.connection.codec, host.core.side_channel.cursor.seq, host.loop.time())
    before = one.text
    await until(lambda: len(one.text) > len(before) + 20 and line.texts(), "output for both")
    line.connection.disconnected()
    assert host.connection is one.stream
    numbers = [int(word.removeprefix("a")) for word in one.text.split()]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_protected_turn_ends_on_its_stream_before_the_next_begins() -> None:
    """The newer turn waits for the section; its stream waits beside the older one."""
    leave = asyncio.Event()

    async def careful(turn: Turn) -> AsyncIterator[Output]:
        async with turn.uninterruptible():
            yield f"{turn.text}1 "
            await leave.wait()
            yield f"{turn.text}2 "

    sessions = serve(careful)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: one.text == "a1 ", "the section")
    two = Reader(sessions, host, "b")
    assert two.stream.following
    leave.set()
    await until(lambda: two.socket.closed, "the end of both")
    assert one.text == "a1 a2 [superseded]"
    assert two.text == "b1 b2 [completed]"
    assert host.core.side_channel.messages()[-1]["content"] == "b1 b2 "


async def test_a_slow_reader_gets_the_end() -> None:
    """Its agent is paused meanwhile, and output that waits is purged."""
    sessions = serve(counting, max_queued_output_bytes=1024)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: "a3" in one.text, "some output")
    one.socket.writable = False
    await until(lambda: host.core.full, "a paused agent")
    Reader(sessions, host, "b")
    assert one.text.endswith("[superseded]")


async def test_a_fault_of_a_translator_ends_its_stream_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The agent does not notice."""
    sessions = serve(counting)
    host = await opened(sessions)
    one = Reader(sessions, host, "a")
    await until(lambda: "a3" in one.text, "some output")
    one.words.fails = True
    await until(lambda: one.socket.closed, "the end of the stream")
    assert one.text.endswith("<internal>")
    assert host.core.busy
    assert [record.message for record in caplog.records] == ["an event was not translated"]


@pytest.mark.virtual_time
async def test_a_silent_stream_is_kept_open() -> None:
    """A proxy closes a connection on which nothing comes."""

    async def silent(turn: Turn) -> AsyncIterator[Output]:
        yield "one"
        await asyncio.sleep(50)
        yield "two"

    sessions = serve(silent, heartbeat_s=10.0, no_output_s=100.0)
    one = Reader(sessions, await opened(sessions), "a")
    await asyncio.sleep(55)
    assert one.text.replace(".", "") == "onetwo[completed]"
    assert 4 <= one.text.count(".") <= 10


async def test_a_server_that_stops_ends_streams() -> None:
    """The turn fails with `shutdown`, and the stream has that."""
    sessions = serve(counting)
    one = Reader(sessions, await opened(sessions), "a")
    await until(lambda: "a3" in one.text, "some output")
    await sessions.shut_down()
    assert one.text.endswith("[shutdown]")
    assert not sessions.streams


async def test_ids_are_of_their_principal() -> None:
    """The same id of another principal is another session, and the same one is the same."""
    sessions = serve(brief)
    ann = await sessions.own_ids.open("ann", "mine", "principal ann")
    bob = await sessions.own_ids.open("bob", "mine", "principal bob")
    assert ann is not bob
    assert await sessions.own_ids.open("ann", "mine", "principal ann") is ann
    assert await sessions.own_ids.find("ann", "other") is None
    assert own_session_id("a", "b") != own_session_id(None, "b")


async def test_a_full_server_refuses_a_new_id() -> None:
    """It never ends a session with a running turn for that."""
    sessions = serve(counting, max_sessions=1)
    Reader(sessions, await opened(sessions, "one"), "a")
    with pytest.raises(Unavailable):
        await opened(sessions, "two")


EVENTS: list[TurnEvent] = [
    TurnStarted(turn_id=TurnId("t"), input_id=InputId("i")),
    Thought(text="hm"),
    TextDelta(text="Let me look. "),
    ToolCall(call_id=CallId("c1"), name="look"),
    ToolCallDelta(call_id=CallId("c1"), arguments='{"at":1}'),
    ToolRunning(call_id=CallId("c1"), arguments={"at": 1}),
    ToolResult(call_id=CallId("c1"), output=[1], status="completed", duration_ms=3),
    StepEnded(index=0),
    TextDelta(text="Shall I buy it?"),
    ToolCall(call_id=CallId("c2"), name="buy"),
    ToolConfirm(call_id=CallId("c2"), arguments={"what": "it"}),
    TextDelta(source="other", text="aside"),
    Data(name="price", value=3),
    TurnEnded(turn_id=TurnId("t"), status="interrupted", reason="client", last_seq=0, heard={}),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("length", range(1, len(EVENTS) + 1))
def test_a_state_becomes_events_that_fold_to_it(length: int) -> None:
    """Wherever the turn stands."""
    from msgspec.structs import replace

    from bargein_protocol import Heard, Seq

    def folded(events: list[TurnEvent]) -> TurnFold:
        fold = TurnFold(TurnId("t"), InputId("i"))
        for seq, event in enumerate(events, 1):
            change = {"heard": Heard()} if isinstance(event, TurnEnded) else {}
            fold.apply(replace(event, seq=Seq(seq), turn_id=TurnId("t"), **change))
        return fold

    state = folded(EVENTS[:length]).folded()
    assert folded(list(events_of(state))).folded().lanes == state.lanes

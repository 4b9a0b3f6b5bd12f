"""Phone calls over Twilio Media Streams: a phone whose buffer plays when the test lets it."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bargein_protocol import (
    AudioDelta,
    ClientEvent,
    Data,
    Heard,
    InputAudio,
    InputText,
    Playback,
    Seq,
    SpeechStarted,
    TurnEnded,
    TurnHeld,
    TurnId,
    TurnResumed,
)
from bargein_server import BearerTokens, Turn, issue_shared_ticket
from bargein_server.agent import Message
from bargein_server.cluster.place import Place, new_name
from bargein_server.endpoints.doors.twilio.phone_call import MAX_UNPLAYED_MS, PhoneCall, Start
from bargein_server.endpoints.doors.twilio.signature import is_signed, signature_of
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_store import RedisStore
from bargein_server.voice.interfaces import Spoken
from bargein_server.voice.sound import decoded, encoded
from fake_voice import WORD_MS, FakeVoice, Reader, babble, fake_parts, silence
from live_server import Serving, serving
from modelled_store import modelled
from phone import CALL, STREAM, ringing
from redis_model import RedisModel
from waiting import until

A, B = TurnId("t_a"), TurnId("t_b")

# --- the call alone --------------------------------------------------------------------------------


class Handle:
    """A timer of `FakeLine`."""

    def __init__(self, line: FakeLine, callback: Any) -> None:
        self._line, self.callback = line, callback

    def cancel(self) -> None:
        self._line.timers.remove(self)


class FakeLine:
    """The connection and the session of a call, as lists."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.events: list[ClientEvent] = []
        self.timers: list[Handle] = []
        self.rooms = 0
        self.hung_up = False

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def act(self, event: ClientEvent) -> None:
        self.events.append(event)

    def begin(self, start: Start) -> None:
        self.start = start

    def after(self, seconds: float, callback: Any) -> Handle:
        self.timers.append(Handle(self, callback))
        return self.timers[-1]

    def room(self) -> None:
        self.rooms += 1

    def hang_up(self, *, is_full: bool = False) -> None:
        self.hung_up = True

    def kinds(self) -> list[str]:
        kinds = [message["event"] for message in self.sent]
        self.sent.clear()
        return kinds


@pytest.fixture
def line() -> FakeLine:
    """A line."""
    return FakeLine()


@pytest.fixture
def call(line: FakeLine) -> PhoneCall:
    """A call that has begun."""
    call = PhoneCall(line)
    call.receive({"event": "start", "streamSid": STREAM, "start": {"callSid": CALL}})
    return call


def sound(turn: TurnId, start_ms: int, ms: int, **fields: Any) -> AudioDelta:
    """Return sound of a turn."""
    return AudioDelta(audio=b"\xff" * (8 * ms), start_ms=start_ms, duration_ms=ms, turn_id=turn, **fields)


def ended(turn: TurnId, status: Any = "completed") -> TurnEnded:
    """Return the end of a turn."""
    return TurnEnded(turn_id=turn, status=status, reason="x", last_seq=Seq(1), heard=Heard())


def play(call: PhoneCall, name: str) -> None:
    """Return a mark."""
    call.receive({"event": "mark", "mark": {"name": name}})


def test_sound_goes_out_in_pieces_with_marks(line: FakeLine, call: PhoneCall) -> None:
    """A mark reports what was played; another lane is not spoken."""
    call.take(sound(A, 0, 250))
    call.take(sound(A, 0, 100, source="aside"))
    marks = [message["mark"]["name"] for message in line.sent if message["event"] == "mark"]
    sizes = [len(base64.b64decode(m["media"]["payload"])) for m in line.sent if m["event"] == "media"]
    assert sizes == [800, 800, 400]
    assert marks == ["0.1", "0.2", "0.3"]
    assert {message["streamSid"] for message in line.sent} == {STREAM}
    play(call, "0.2")
    assert line.events == [Playback(turn_id=A, audio_ms=200)]


def test_a_hold_clears_and_a_resume_sends_the_rest_again(line: FakeLine, call: PhoneCall) -> None:
    """Nothing is lost; the marks that come back with the `clear` do not count."""
    call.take(sound(A, 0, 300))
    play(call, "0.1")
    line.kinds()
    call.take(TurnHeld(turn_id=A))
    assert line.kinds() == ["clear"]
    for late in ("0.2", "0.3"):
        play(call, late)
    assert line.events == [Playback(turn_id=A, audio_ms=100)]
    call.take(TurnResumed(turn_id=A))
    assert [m["mark"]["name"] for m in line.sent if m["event"] == "mark"] == ["1.2", "1.3"]
    play(call, "1.3")
    assert line.events[-1] == Playback(turn_id=A, audio_ms=300)


def test_an_interrupted_turn_falls_silent(line: FakeLine, call: PhoneCall) -> None:
    """One `clear`, and the sound of another turn before it is sent again."""
    call.take(sound(A, 0, 100))
    call.take(ended(A))
    call.take(sound(B, 0, 200))
    line.kinds()
    call.take(ended(B, "interrupted"))
    assert line.kinds() == ["clear", "media", "mark"]
    call.take(ended(B, "interrupted"))
    assert line.kinds() == []


def test_speech_over_the_rest_of_a_turn_that_has_ended(line: FakeLine, call: PhoneCall) -> None:
    """The floor cannot hold it any more, so the door silences it; a running turn is the floor's."""
    call.take(sound(A, 0, 200))
    line.kinds()
    call.take(SpeechStarted(at_ms=0))
    assert line.kinds() == []
    call.take(ended(A))
    call.take(SpeechStarted(at_ms=900))
    assert line.kinds() == ["clear"]


def test_an_agent_that_is_far_ahead_waits(line: FakeLine, call: PhoneCall) -> None:
    """There is room again when sound was played, or dropped."""
    for second in range(MAX_UNPLAYED_MS // 1000):
        assert call.has_room
        call.take(sound(A, 1000 * second, 1000))
    assert not call.has_room
    play(call, "0.1")
    assert (call.has_room, line.rooms) == (True, 1)
    call.take(sound(A, MAX_UNPLAYED_MS, 100))
    assert not call.has_room
    call.take(ended(A, "interrupted"))
    assert (call.has_room, line.rooms) == (True, 2)


def test_keys_become_an_input(line: FakeLine, call: PhoneCall) -> None:
    """After `#` or a pause; a key that is none is nothing."""
    for digit in "12x#":
        call.receive({"event": "dtmf", "dtmf": {"digit": digit}})
    call.receive({"event": "dtmf", "dtmf": {"digit": "#"}})
    call.receive({"event": "dtmf", "dtmf": {"digit": "*"}})
    [timer] = line.timers
    timer.callback()
    asked = [(e.text, e.metadata) for e in line.events if isinstance(e, InputText)]
    assert asked == [("12", {"dtmf": "12"}), ("*", {"dtmf": "*"})]


def test_an_agent_hangs_up_after_its_last_word(line: FakeLine, call: PhoneCall) -> None:
    """The application event `hang_up` waits for the sound."""
    call.take(sound(A, 0, 100))
    call.take(Data(turn_id=A, name="hang_up", value=None))
    call.take(ended(A))
    assert not line.hung_up
    play(call, "0.1")
    assert line.hung_up


@pytest.mark.parametrize(
    "message",
    [
        {}, {"event": None}, {"event": ["media"]}, {"event": "media"}, {"event": "media", "media": []},
        {"event": "media", "media": {"payload": 3}}, {"event": "media", "media": {"payload": "?"}},
        {"event": "media", "media": {"payload": "A" * 100_000}}, {"event": "mark", "mark": None},
        {"event": "media", "media": {"track": "outbound", "payload": "////"}},
        {"event": "mark", "mark": {"name": "0." + "9" * 5000}}, {"event": "mark", "mark": {"name": "0.²"}},
        {"event": "dtmf", "dtmf": {"digit": ""}}, {"event": "start", "start": {}}, {"event": "new"},
    ],
)  # fmt: skip
def test_malformed_messages_are_ignored(line: FakeLine, call: PhoneCall, message: dict[str, Any]) -> None:
    """The call goes on, and the session gets nothing."""
    call.receive(message)
    assert line.events == []
    call.receive({"event": "media", "media": {"payload": "////"}})
    assert line.events == [InputAudio(audio=b"\xff\xff\xff")]


def test_nothing_counts_before_the_start(line: FakeLine) -> None:
    """A call begins with `start`."""
    call = PhoneCall(line)
    call.receive({"event": "media", "media": {"payload": "////"}})
    assert line.events == []


def test_the_signature_is_twilio_s() -> None:
    """HMAC-SHA1 of the URL; the header of a proxy names the host; a slash at the end is no matter."""
    url = "wss://voice.example.com/v1/twilio"
    # The value was computed with `openssl dgst -sha1 -hmac 12345 -binary | base64`.
    assert signature_of(url, "12345") == "LlXgETQBie/lEXbglT20RkzJTMk="
    headers = {"host": "10.0.0.1:8000", "x-forwarded-host": "voice.example.com"}
    for signed in (url, url + "/"):
        given = {**headers, "x-twilio-signature": signature_of(signed, "12345")}
        assert is_signed(given, "/v1/twilio", "12345")
    good = {"x-twilio-signature": signature_of(url, "12345")}
    assert is_signed(good, "/other", "12345", url)
    assert not is_signed({**headers, **good}, "/v1/twilio", "1234")
    assert not is_signed({**headers, **good}, "/v1/other", "12345")
    assert not is_signed(headers, "/v1/twilio", "12345")
    assert not is_signed({**headers, "x-twilio-signature": "é"}, "/v1/twilio", "12345")


# --- a server --------------------------------------------------------------------------------------


class Steps(FakeVoice):
    """Voice with 100 ms for each word, whose samples are a level of μ-law that no other word has."""

    async def say(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Yield the words."""
        self.said.append(text)
        for number, at in enumerate(each.start() for each in re.finditer(r"\S+", text)):
            level = decoded(bytes([step(number)]) * 800, "mulaw")
            yield Spoken(encoded(level), ((at, WORD_MS * number),))


def step(number: int) -> int:
    """Return the code of a word's samples."""
    return 0xE0 - 3 * number


HISTORIES: list[list[Message]] = []
"""What the agent knew at each turn."""


async def talker(turn: Turn) -> AsyncIterator[Any]:
    """Count for long to "talk", report the call to "who", and repeat everything else."""
    HISTORIES.append(turn.history.messages())
    if turn.text == "talk":
        yield "word " * 20
    elif turn.text == "who":
        yield turn.session.metadata["twilio"]["parameters"]["name"] + "."
    elif turn.text == "bye":
        yield "Good bye."
        yield turn.data("hang_up", None)
    else:
        yield f"You said {turn.text}."


@asynccontextmanager
async def line_with(*texts: str, **options: Any) -> AsyncIterator[tuple[Serving, Steps]]:
    """Serve the agent to phones; the recogniser reads the texts one after the other."""
    voice = Steps(8000)
    parts = fake_parts(voice=voice, recogniser=Reader(*texts))
    async with serving(talker, voice=parts, doors=["twilio"], **options) as served:
        yield served, voice


def loud(ms: int) -> bytes:
    """Return speech that is no echo of the voice."""
    return encoded(babble(ms / 1000, 7))


async def test_a_call() -> None:
    """Speech is answered aloud, the agent learns about the call, and hanging up ends the session."""
    async with line_with("hello") as (served, voice), ringing(served, name="Ada", input="who") as phone:
        await phone.listen(lambda: phone.played_ms >= 100)
        assert voice.said == ["Ada."]
        await phone.say(silence(300), loud(600), silence(800))
        await phone.listen(lambda: phone.played_ms >= 400)
        assert voice.said == ["Ada.", "You said hello."]
        assert phone.heard == b"".join(bytes([step(n)]) * 800 for n in (0, 0, 1, 2))
        assert len(served.sessions) == 1
        await phone.hang_up()
        await phone.wait(phone.closed.is_set)
        assert phone.close_code == 1000
        await until(lambda: not len(served.sessions), "the session's end")
        ears = served.sessions.ears
        assert ears is not None
        await until(lambda: ears.listeners == 0, "the place")


async def test_a_barge_in() -> None:
    """The phone falls silent with the hold, for good with the words; the rest of the turn never comes."""
    async with line_with("stop it") as (served, _), ringing(served, input="talk") as phone:
        await phone.listen(lambda: phone.played_ms >= 300)
        await phone.say(silence(100), loud(200))
        await phone.wait(lambda: phone.clears > 0)
        assert phone.waiting_ms == 0
        before = phone.played_ms
        await phone.say(loud(800), silence(800))
        await phone.listen(lambda: phone.played_ms >= before + 400)
        assert phone.heard[8 * before :] == b"".join(bytes([step(n)]) * 800 for n in range(4))
        heard = HISTORIES[-1][1]["content"].count("word")
        assert before // 100 - 1 <= heard <= before // 100


async def test_a_cough_loses_no_sound() -> None:
    """It goes on from the last mark: at most a tenth of a second is heard again, and nothing is missing."""
    async with line_with("") as (served, _), ringing(served, input="talk") as phone:
        await phone.listen(lambda: phone.played_ms >= 350)
        await phone.say(silence(100), loud(200))
        await phone.wait(lambda: phone.clears > 0)
        at = phone.played_ms
        await phone.say(silence(900))
        whole = b"".join(bytes([step(n)]) * 800 for n in range(20))
        await phone.listen(lambda: phone.heard[-800:] == whole[-800:])
        assert phone.heard[: 8 * at] == whole[: 8 * at]
        again = len(phone.heard) - len(whole)
        assert 0 <= again <= 800
        assert phone.heard[8 * at :] == whole[8 * at - again :]
        [host] = served.sessions
        await until(lambda: not host.core.busy, "the turn's end")


async def test_an_agent_hangs_up() -> None:
    """After its last word; Twilio then goes on with the next verb."""
    async with line_with() as (served, _), ringing(served, input="bye") as phone:
        await phone.listen(phone.closed.is_set)
        assert (phone.played_ms, phone.close_code) == (200, 1000)


async def test_keys_are_an_input() -> None:
    """A menu without speech."""
    async with line_with() as (served, voice), ringing(served) as phone:
        for digit in "12#":
            await phone.press(digit)
        await phone.listen(lambda: phone.played_ms >= 300)
        assert voice.said == ["You said 12."]


async def test_a_lost_line_ends_the_session() -> None:
    """Nobody can come back to a call."""
    async with line_with() as (served, _):
        async with ringing(served, input="talk") as phone:
            await phone.listen(lambda: phone.played_ms >= 100)
        await until(lambda: not len(served.sessions), "the session's end")


async def test_a_call_needs_its_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TWILIO_AUTH_TOKEN a wrong signature is refused, and the call is a principal of its own."""
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "12345")
    async with line_with(authenticator=BearerTokens({"t" * 20: "ada"})) as (served, _):
        url = f"wss://127.0.0.1:{served.port}/v1/twilio"
        for wrong in ({}, {"X-Twilio-Signature": signature_of(url, "1234")}):
            with pytest.raises(InvalidStatus) as refused:
                async with ringing(served, wrong):
                    pass
            assert refused.value.response.status_code == 403
        async with ringing(served, {"X-Twilio-Signature": signature_of(url, "12345")}, input="x") as phone:
            await phone.listen(lambda: phone.played_ms >= 100)
            [host] = served.sessions
            assert host.owner == f"principal twilio:{CALL}"


async def test_a_call_proves_itself_with_a_parameter() -> None:
    """Without a signature, a server with tokens asks for one; a call without is cut."""
    async with line_with(authenticator=BearerTokens({"t" * 20: "ada"})) as (served, voice):
        async with ringing(served, token="wrong") as phone:
            await phone.wait(phone.closed.is_set)
            assert phone.close_code == 4401
        async with ringing(served, token="t" * 20, name="Ada", input="who") as phone:
            await phone.listen(lambda: phone.played_ms >= 100)
            assert voice.said == ["Ada."]
            [host] = served.sessions
            assert "token" not in host.view.metadata["twilio"]["parameters"]


async def test_a_call_proves_itself_with_a_ticket_of_another_server() -> None:
    """Which the server with the TwiML issued, and the store has."""
    model = RedisModel(time.time)
    stores = [modelled(RedisStore(RedisAddress((("model", 1),)), 1000.0), model) for _ in range(2)]
    users = BearerTokens({"t" * 20: "ada"})
    async with (
        serving(talker, authenticator=users, store=stores[0]) as other,
        line_with(authenticator=users, store=stores[1]) as (served, voice),
    ):
        ticket = await issue_shared_ticket(other.app, "ada")
        async with ringing(served, token=ticket, name="Ada", input="who") as phone:
            await phone.listen(lambda: phone.played_ms >= 100)
            assert voice.said == ["Ada."]
        async with ringing(served, token=ticket) as phone:
            await phone.wait(phone.closed.is_set)
            assert phone.close_code == 4401


async def test_servers_that_cannot_take_calls() -> None:
    """Without ears, and with all places taken."""
    async with serving(talker, doors=["twilio"]) as served:
        with pytest.raises(InvalidStatus) as refused:
            async with ringing(served):
                pass
        assert refused.value.response.status_code == 503
    async with line_with(max_listeners=1) as (served, _), ringing(served, input="talk") as first:
        await first.listen(lambda: first.played_ms > 0)
        async with ringing(served) as second:
            await second.wait(second.closed.is_set)
            assert second.close_code == 1013


@pytest.mark.parametrize(
    "frame",
    [
        b"\0",
        "[]",
        "{",
        '{"a":' * 500,
        '{"a":' * 900 + "1" + "}" * 900,
        "\ud800".encode("utf-8", "replace").decode(),
    ],
)  # fmt: skip
async def test_frames_that_are_none(frame: str | bytes) -> None:
    """The connection is closed, and the server lives."""
    async with line_with() as (served, _):
        url = f"ws://127.0.0.1:{served.port}/v1/twilio"
        async with connect(url, compression=None) as socket:
            await socket.send(frame)
            await asyncio.wait_for(socket.wait_closed(), 5)
            assert socket.close_code == 4400
        async with ringing(served, input="x") as phone:
            await phone.listen(lambda: phone.played_ms > 0)


async def test_a_call_at_a_worker(tmp_path: Path) -> None:
    """It is in the worker that accepted it, to its end."""
    place = Place(new_name(), str(tmp_path), 0, 2)
    async with (
        line_with("hello", place=place) as (served, _),
        ringing(served, name="Ada", input="who") as phone,
    ):
        await phone.listen(lambda: phone.played_ms >= 100)
        await phone.say(silence(300), loud(600), silence(800))
        await phone.listen(lambda: phone.played_ms >= 400)
        await phone.hang_up()
        await phone.wait(phone.closed.is_set)
        assert phone.close_code == 1000

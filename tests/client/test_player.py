"""The player of the Python client: what it gives to a loudspeaker, and what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import bargein_protocol as bp
from bargein_client import AudioPlayer, ClientSession, connect
from bargein_server import Output, Turn
from client_script import patiently
from live_server import serving
from waiting import until

RATE = 8_000
WORD = RATE // 10
AUDIO = bp.SessionAudio(output=bp.AudioFormat(rate=RATE))
QUANTUM = 80


def word(number: int) -> bytes:
    """Return 100 ms of sound that shows which word it is."""
    return number.to_bytes(2, "little") * WORD


async def speaks(turn: Turn) -> AsyncIterator[Output]:
    """Ten words of 100 ms each, much faster than they are played; then it stays."""
    for number in range(1, 11):
        yield bp.AudioDelta(
            audio=word(number), start_ms=100 * (number - 1), duration_ms=100, text=f"word{number} "
        )
    if turn.text != "short":
        await asyncio.sleep(30)


class Loudspeaker:
    """Takes quanta from a player."""

    def __init__(self, player: AudioPlayer) -> None:
        self.player = player
        self.sound = b""

    def play(self, samples: int) -> bytes:
        """Play so many samples; return them."""
        sound = b"".join(self.player.read(QUANTUM) for _ in range(samples // QUANTUM))
        self.sound += sound
        return sound


async def playing(session: ClientSession) -> tuple[Loudspeaker, asyncio.Task[None]]:
    """Return a loudspeaker of a session."""
    assert session.audio is not None
    assert session.audio.output is not None
    player = AudioPlayer(session.audio.output)
    return Loudspeaker(player), asyncio.create_task(player.run(session))


def test_another_encoding_is_refused() -> None:
    """With the remedy."""
    with pytest.raises(ValueError, match="expected pcm16"):
        AudioPlayer(bp.AudioFormat(encoding="mulaw", rate=RATE))


async def test_all_samples_are_played_in_order_and_reported() -> None:
    """Also after the turn has ended on the server."""
    async with serving(speaks) as server, connect(server.url, audio=AUDIO) as session:
        speaker, task = await playing(session)
        turn = session.send("short")
        await patiently(turn.ended())
        await until(lambda: speaker.player.playing == turn.id)
        speaker.play(10 * WORD)
        assert speaker.sound == b"".join(map(word, range(1, 11)))
        assert speaker.play(QUANTUM) == bytes(2 * QUANTUM)
        assert speaker.player.played_ms(turn.id or bp.NO_TURN) == 1000
        assert speaker.player.playing is None
        task.cancel()


async def test_a_hold_is_silent_from_the_next_quantum_on_and_loses_nothing() -> None:
    """The sound goes on at the exact sample."""
    async with serving(speaks) as server, connect(server.url, audio=AUDIO) as session:
        speaker, task = await playing(session)
        turn = session.send("long")
        await until(lambda: speaker.player.playing is not None)
        await patiently(turn.accepted())
        await asyncio.sleep(0.05)
        before = speaker.play(WORD + QUANTUM)
        await patiently(turn.hold())
        await until(lambda: turn.state.held)
        await asyncio.sleep(0.01)
        assert speaker.play(QUANTUM) == bytes(2 * QUANTUM)
        await patiently(turn.resume())
        await until(lambda: not turn.state.held)
        await asyncio.sleep(0.01)
        after = speaker.play(WORD - QUANTUM)
        assert before + after == word(1) + word(2)
        task.cancel()


async def test_an_interrupt_is_silent_at_once_and_heard_to_the_word() -> None:
    """In the step of the request; the report says what was played."""
    async with serving(speaks) as server, connect(server.url, audio=AUDIO) as session:
        speaker, task = await playing(session)
        turn = session.send("long")
        await until(lambda: speaker.player.playing is not None)
        await patiently(turn.accepted())
        await asyncio.sleep(0.05)
        speaker.play(3 * WORD)
        await asyncio.sleep(0.15)  # a report is on its way
        interrupt = asyncio.ensure_future(turn.interrupt())
        await asyncio.sleep(0)
        assert speaker.play(QUANTUM) == bytes(2 * QUANTUM)
        result = await patiently(interrupt)
        assert result.heard is not None
        assert (result.heard.audio_ms, result.heard.text) == (300, "word1 word2 word3 ")
        await until(lambda: speaker.player.playing is None)
        task.cancel()

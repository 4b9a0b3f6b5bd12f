"""The microphone of a session: pieces, bounds, and a server that cannot hear."""

from __future__ import annotations

import pytest
from msgspec import structs

import bargein_protocol as bp
from bargein_client import InputRejected, SessionClosed, connect
from bargein_client.core import ClientCore
from bargein_client.microphone import MAX_QUEUED_MS, PIECE_MS
from client_script import opened, patiently
from live_server import counting, serving

SOUND = bp.SessionAudio(input=bp.AudioFormat(rate=16_000), output=bp.AudioFormat(rate=24_000))
PIECE = bytes(640)


def listening(granted: bp.SessionAudio | None = SOUND) -> ClientCore:
    """Return a core whose session is open."""
    core = ClientCore(audio=SOUND)
    core.attach()
    core.outgoing()
    core.receive(structs.replace(opened(), audio=granted))
    return core


def test_a_slow_line_drops_sound_and_nothing_else() -> None:
    """What is late misleads the server; commits and reports stay."""
    core = listening()
    most = MAX_QUEUED_MS // PIECE_MS
    assert core.audio.send(PIECE * most)
    assert not core.audio.send(PIECE * 3)
    assert core.audio.dropped == 3 * len(PIECE)
    core.send_input(bp.InputCommit(id=bp.InputId("c")))
    assert [type(event) for event in core.outgoing()] == [bp.InputAudio] * most + [bp.InputCommit]
    assert core.audio.send(PIECE)


def test_sound_for_a_line_that_broke_is_dropped() -> None:
    """The rest of a piece as well: the next connection begins with whole samples."""
    core = listening()
    assert core.audio.send(PIECE[:99])
    core.detach()
    assert not core.audio.send(PIECE)
    assert core.audio.dropped == 99 + len(PIECE)


def test_a_rest_of_half_a_sample_is_not_sent() -> None:
    """The server refuses it."""
    core = listening()
    core.audio.send(PIECE[:5])
    core.audio.flush()
    [event] = core.outgoing()
    assert event == bp.InputAudio(audio=PIECE[:4])


@pytest.mark.parametrize("granted", [None, bp.SessionAudio(input=bp.AudioFormat(rate=8_000))])
def test_a_server_that_takes_another_format_gets_nothing(granted: bp.SessionAudio | None) -> None:
    """Nor one that takes none."""
    core = listening(granted)
    assert core.audio.format is None
    assert not core.audio.send(PIECE)
    assert core.outgoing() == []


async def test_a_server_that_cannot_hear() -> None:
    """The session works; the microphone shows it, and a commit is refused."""
    async with serving(counting) as server, connect(server.url, audio=SOUND) as session:
        assert session.audio == bp.SessionAudio(output=SOUND.output)
        assert session.microphone.format is None
        assert session.microphone.detects
        assert not session.microphone.send(PIECE)
        turn = session.microphone.commit()
        with pytest.raises(InputRejected) as caught:
            await patiently(turn.accepted())
        assert caught.value.code == "unsupported"
        session.microphone.clear()
    with pytest.raises(SessionClosed):
        session.microphone.send(PIECE)


async def test_the_turn_of_another_input_is_the_current_one() -> None:
    """A turn that speech asked for has a handle, too."""
    async with serving(counting) as server, connect(server.url) as session:
        turn = session.send("count")
        await patiently(turn.accepted())
        assert session.current is turn

"""The books that the load test keeps of a session."""

from __future__ import annotations

import pytest

from bargein_protocol import JSON, Epoch, Limits, SessionId, SessionOpened, Token
from loadgen.figures import Figures
from loadgen.session import LoadSession


def opened(resumed: bool = False) -> bytes:
    """Return what a server answers a `session.open` with."""
    limits = Limits(frame_bytes=262144, pending=64, queued=8)
    return JSON.encode(
        SessionOpened(
            session_id=SessionId("s"),
            token=Token("k"),
            epoch=Epoch("e"),
            resumed=resumed,
            heartbeat_ms=15000,
            limits=limits,
        )
    )


@pytest.mark.parametrize("on_purpose", [True, False])
def test_what_is_asked_while_there_is_no_line_counts_only_when_the_server_lost_it(on_purpose: bool) -> None:
    """Whoever waits for a line that the generator cut waits for nothing that the server does."""
    session = LoadSession(JSON, Figures())
    asked = []
    for _ in range(2):
        session.attach(lambda frame: None, 0.0)
        session.receive(opened(), 0.0)
        asked.append(session.ask("while there is a line", 1.0, 1.0))
        session.detach(on_purpose=on_purpose)
        asked.append(session.ask("while there is none", 2.0, 2.0))
    assert [turn.disturbed for turn in asked] == [on_purpose] * 4
    session.attach(lambda frame: None, 0.0)
    session.receive(opened(), 0.0)
    assert not session.ask("while there is a line", 3.0, 3.0).disturbed


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_asked_while_a_session_opens_is_sent_once(resumed: bool) -> None:
    """A resume takes along what waits then; whoever asks before its answer would wait for ever."""
    session = LoadSession(JSON, Figures())
    sent: list[bytes] = []
    if resumed:
        session.attach(lambda frame: None, 0.0)
        session.receive(opened(), 0.0)
        session.detach(on_purpose=True)
        session.ask("before", 1.0, 1.0)
    session.attach(sent.append, 0.0)
    session.ask("meanwhile", 1.0, 1.0)
    session.receive(opened(resumed), 0.0)
    session.ask("after", 1.0, 1.0)
    assert [b"".join(sent).count(text) for text in (b"before", b"meanwhile", b"after")] == [resumed, 1, 1]

"""What silence for too long brings about; absence is in tests/contract/test_resume.py."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import Ping, TurnEnded, TurnHold
from bargein_server.core import CloseConnection, Expire
from bargein_server.core.turn_limiter import TurnLimiter
from core_driver import Talk


def closes(talk: Talk) -> list[str]:
    """Why the shell was asked to close the connection."""
    return [command.code.name for command in talk.commands if isinstance(command, CloseConnection)]


def test_a_session_that_nobody_uses_is_closed() -> None:
    """At the limit, not before; its client is told why, and a resume finds nothing."""
    talk = Talk(idle_s=100)
    talk.wait(99.9)
    assert closes(talk) == []
    talk.wait(0.1)
    assert closes(talk) == ["expired"]
    assert [command for command in talk.commands if isinstance(command, Expire)] == [Expire()]
    assert talk.session.refusal(talk.resume(talk.opened().token), talk.now) == "unknown_session"


def test_any_frame_counts_as_life() -> None:
    """A ping is enough."""
    talk = Talk(idle_s=100)
    for _ in range(3):
        talk.wait(99)
        talk.send(Ping(id="p"))
    talk.wait(99)
    assert closes(talk) == []


def test_a_session_whose_agent_works_is_not_idle() -> None:
    """The time begins when its turn is over."""
    talk = Talk(idle_s=100, no_output_s=1e6)
    turn = talk.ask()
    talk.wait(500)
    talk.finish(turn)
    assert [event.status for event in talk.of(TurnEnded)] == ["completed"]
    talk.wait(90)
    assert closes(talk) == []
    talk.wait(20)
    assert closes(talk) == ["expired"]


def test_coming_back_counts_as_life() -> None:
    """The time begins anew with the new connection."""
    talk = Talk(idle_s=100)
    talk.wait(90)
    talk.detach()
    talk.attach(cursor=0)
    talk.wait(90)
    assert closes(talk) == []


@given(
    seconds=st.floats(0.001, 100),
    share=st.floats(0, 0.5),
    use=st.sampled_from(["idle", "running", "paused", "waiting", "away", "held"]),
)
def test_a_deadline_is_over_after_its_tick(seconds: float, share: float, use: str) -> None:
    """Whatever rounding does to the times; otherwise the timer would be set to the same time again."""
    names = ("idle_s", "no_output_s", "paused_s", "turn_wait_s", "away_s", "resume_s", "heartbeat_s")
    limits: dict[str, Any] = dict.fromkeys(names, seconds)
    limiter = TurnLimiter(1, 8)
    talk = Talk(limiter, **limits)
    talk.wait(share * seconds)
    if use == "waiting":
        Talk(limiter).ask()
    if use != "idle":
        turn = talk.ask()
        if use == "held":
            talk.send(TurnHold(turn_id=turn))
        elif use == "paused":
            talk.open = False
            talk.emit(turn, *["x" * 8000] * 100)
        elif use == "away":
            talk.detach()
    talk.wait(20 * seconds)  # which looks at each deadline after its tick

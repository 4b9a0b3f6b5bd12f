"""What silence for too long brings about; absence is in tests/contract/test_resume.py."""

from __future__ import annotations

from bargein_protocol import Ping, TurnEnded
from bargein_server.core import CloseConnection, Expire
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

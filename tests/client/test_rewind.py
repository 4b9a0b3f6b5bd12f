"""Turns that the client drops from the end of its conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import bargein_protocol as bp
from bargein_client import RewindRefused, connect
from bargein_client.errors import TooManyPending
from bargein_server import Turn
from client_script import Client, accepted, drain, ended, kinds, opened, replay_done, said, text
from live_server import serving

REWIND = bp.SessionRewind(id=bp.RewindId("r_1"), turn_id=bp.TurnId("t_1"))


def rewound(seq: int, *turns: str, duplicate: bool = False) -> bp.SessionRewound:
    return bp.SessionRewound(
        seq=bp.Seq(seq), rewind_id=REWIND.id, turns=[bp.TurnId(turn) for turn in turns], duplicate=duplicate
    )


def test_a_turn_that_runs_is_silent_immediately() -> None:
    """Before the server has answered (contract 2); its output is dropped with the end."""
    client = Client().open()
    turn = client.running("one ")
    client.core.rewind(REWIND)
    client.take(text(4, "t_1", "two "))
    events = drain(turn.inbox)
    assert said(events) == ""
    client.take(ended(5, "t_1", "interrupted", "rewound"), rewound(6, "t_1"))
    assert kinds(drain(turn.inbox))[-1] == "TurnEnded"
    assert client.core.outcomes()[-1] == ("r_1", rewound(6, "t_1"))
    assert kinds(drain(client.everything))[-1] == "SessionRewound"


def test_a_refused_rewind_gives_the_output_back() -> None:
    """A section protects the turn: what was kept meanwhile is delivered."""
    client = Client().open()
    turn = client.running("one ")
    client.core.rewind(REWIND)
    refused = bp.ErrorEvent(code="busy", message="no", ref_id="r_1", retryable=True)
    client.take(text(4, "t_1", "two "), refused)
    assert said(drain(turn.inbox)) == "one two "


def test_it_is_pending_until_it_is_answered() -> None:
    """On the next connection it comes first, in its order, and its copy is answered once."""
    client = Client().open()
    client.running("one ")
    client.take(ended(4, "t_1"))
    client.core.rewind(REWIND)
    again = bp.InputText(id=bp.InputId("in_2"), text="one")
    client.core.send_input(again)
    assert client.reopen().pending == [REWIND, again]
    client.take(rewound(0, "t_1", duplicate=True), rewound(5, "t_1"), replay_done(5))
    answers = [outcome for request_id, outcome in client.core.outcomes() if request_id == "r_1"]
    assert answers == [rewound(0, "t_1", duplicate=True)]
    client.core.detach()
    client.core.attach()
    assert client.core.outgoing()[0].pending == [again]  # type: ignore[union-attr]


def test_rewinds_are_bounded() -> None:
    """With all other requests."""
    client = Client().open()
    for number in range(64):
        client.core.rewind(bp.SessionRewind(id=bp.RewindId(f"r_{number}"), turn_id=bp.TurnId("t_1")))
    with pytest.raises(TooManyPending):
        client.core.rewind(bp.SessionRewind(id=bp.RewindId("one more"), turn_id=bp.TurnId("t_1")))


async def remembering(turn: Turn) -> AsyncIterator[str]:
    """Answer with all inputs that the history has."""
    yield " | ".join(message["content"] for message in turn.history.messages() if message["role"] == "user")


async def test_a_message_is_edited_on_a_real_server() -> None:
    """The rewind and the new text go out together; the agent sees the new text in place of the old."""
    async with serving(remembering) as server, connect(server.url) as session:
        events = session.events()
        first = session.send("one")
        await first.ended()
        second = session.send("two")
        await second.ended()
        assert second.id is not None
        rewinding = session.rewind(second.id)
        third = session.send("two, edited")
        answer = await rewinding
        await third.ended()
        assert answer.turns == [second.id]
        assert third.text == "one | two, edited"
        async for event in events:
            if isinstance(event, bp.SessionRewound):
                assert event == answer
                break
        with pytest.raises(RewindRefused) as refused:
            await session.rewind(second.id)
        assert refused.value.code == "unknown_turn"


def test_the_helpers_agree_with_the_protocol() -> None:
    """A numbered event must have a number; a duplicate has none."""
    client = Client()
    client.core.attach()
    client.take(opened())
    client.take(accepted(1, "t_1", "in_1"), ended(2, "t_1"), rewound(3, "t_1"), rewound(3, "t_1"))
    assert client.core.last_seq == 3
    assert kinds(drain(client.everything)).count("SessionRewound") == 1

"""The parameters of the application that an agent can read."""

from __future__ import annotations

from bargein_protocol import ErrorEvent, SessionUpdate
from core_driver import Talk


def test_metadata_is_merged_and_null_removes() -> None:
    """What agents read as `turn.session.metadata`."""
    talk = Talk()
    talk.send(SessionUpdate(metadata={"a": 1, "b": 2}))
    talk.send(SessionUpdate(metadata={"b": None, "c": [3]}))
    assert talk.session.metadata == {"a": 1, "c": [3]}


def test_merged_metadata_is_bounded() -> None:
    """More than 1,024 keys in all is an error, and changes nothing."""
    talk = Talk()
    talk.send(SessionUpdate(metadata={f"a{n}": n for n in range(1000)}))
    talk.send(SessionUpdate(metadata={f"b{n}": n for n in range(24)}))
    talk.send(SessionUpdate(metadata={"one more": 1}))
    assert [event.code for event in talk.of(ErrorEvent)] == ["bad_event"]
    assert len(talk.session.metadata) == 1024

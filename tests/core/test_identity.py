"""Who may resume a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import SessionId, Token
from bargein_server.core.identity import OVERLAP_S, Identity

ONE, TWO, THREE = Token("one"), Token("two"), Token("three")


@pytest.fixture
def identity() -> Identity:
    """A session with a second token since time 100."""
    identity = Identity(SessionId("s"))
    identity.rotate(ONE, 0)
    identity.confirm()
    identity.rotate(TWO, 100, ONE)
    return identity


def test_a_session_without_a_token_can_be_resumed_by_nobody() -> None:
    """Not by an empty token either."""
    identity = Identity(SessionId("s"))
    for token in ("", "guess"):
        assert not identity.proves(Token(token), 0)
    identity.rotate(ONE, 0)
    assert not identity.proves(Token(""), 0)


@pytest.mark.parametrize(("later", "good"), [(0.0, True), (OVERLAP_S, True), (OVERLAP_S + 0.001, False)])
def test_the_token_before_stays_good_for_a_minute(identity: Identity, later: float, good: bool) -> None:
    """The answer with the new one may have been lost; the new one is good for ever."""
    assert identity.proves(ONE, 100 + later) is good
    assert identity.proves(TWO, 100 + later)
    assert identity.proves(TWO, 1e9)


def test_a_frame_voids_the_token_before(identity: Identity) -> None:
    """The client has the new one."""
    identity.confirm()
    assert not identity.proves(ONE, 100)
    assert identity.proves(TWO, 100)


def test_only_one_token_before_is_good(identity: Identity) -> None:
    """The one before that was replaced twice."""
    identity.rotate(THREE, 101, TWO)
    assert [identity.proves(token, 101) for token in (ONE, TWO, THREE)] == [False, True, True]


def test_presenting_the_token_before_again_does_not_extend_it(identity: Identity) -> None:
    """A minute from its replacement, however often it is used."""
    identity.rotate(THREE, 131, ONE)
    identity.rotate(Token("four"), 150, ONE)
    assert identity.proves(ONE, 160)
    assert not identity.proves(ONE, 160.001)
    identity.rotate(Token("five"), 200, Token("four"))
    assert identity.proves(Token("four"), 260)


def test_no_token_is_stored() -> None:
    """A dump of the server's memory gives nobody a session."""
    identity = Identity(SessionId("s"))
    identity.rotate(Token("a secret"), 0)
    stored = [getattr(identity, name) for name in identity.__slots__]
    assert "a secret" not in repr(stored)


@given(st.text(max_size=20), st.text(max_size=20))
def test_only_the_very_token_is_good(token: str, guess: str) -> None:
    """Whatever characters it has."""
    identity = Identity(SessionId("s"))
    identity.rotate(Token(token), 0)
    assert identity.proves(Token(guess), 0) is (guess == token)

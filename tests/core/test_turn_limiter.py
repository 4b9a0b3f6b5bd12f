"""The slots of a server and the line before them."""

from __future__ import annotations

from bargein_server.core.turn_limiter import Permit, TurnLimiter


class Room:
    """Some slots, and claims to them by name."""

    def __init__(self, most: int, waiting: int, share: float = 1.0) -> None:
        self.turn_limiter = TurnLimiter(most, waiting, share)
        self.granted: list[str] = []

    def claim(self, name: str, owner: str = "") -> Permit:
        return Permit(self.turn_limiter, lambda: self.granted.append(name), owner)


def test_slots_are_given_up_to_their_number() -> None:
    """One more claim stands in the line."""
    room = Room(2, 5)
    assert [room.claim("x").take() for _ in range(3)] == [True, True, False]
    assert (room.turn_limiter.taken, room.turn_limiter.waiting) == (2, 1)


def test_there_is_room_until_the_line_is_full() -> None:
    """Also for a claim that has its place already."""
    room = Room(1, 1)
    first, second, third = (room.claim(name) for name in "abc")
    assert first.room
    first.take()
    assert second.room
    second.take()
    assert not third.room
    assert first.room
    assert second.room


def test_the_line_is_served_in_order() -> None:
    """Each is told when it has its slot, and keeps its number until then."""
    room = Room(1, 5)
    first, second, third = (room.claim(name) for name in "abc")
    assert [claim.take() for claim in (first, second, third)] == [True, False, False]
    assert [claim.position for claim in (first, second, third)] == [0, 1, 2]
    first.drop()
    assert room.granted == ["b"]
    assert (second.held, second.position, third.position) == (True, 0, 1)
    second.drop()
    third.drop()
    assert (room.granted, room.turn_limiter.taken, room.turn_limiter.waiting) == (["b", "c"], 0, 0)


def test_whoever_leaves_the_line_moves_the_others_up() -> None:
    """And takes no slot with it."""
    room = Room(1, 5)
    first, second, third = (room.claim(name) for name in "abc")
    for claim in (first, second, third):
        claim.take()
    second.drop()
    assert third.position == 1
    assert room.granted == []
    assert room.turn_limiter.taken == 1


def test_taking_and_dropping_twice_is_the_same_as_once() -> None:
    """The books stay right."""
    room = Room(2, 5)
    claim = room.claim("a")
    assert claim.take()
    assert claim.take()
    assert room.turn_limiter.taken == 1
    claim.drop()
    claim.drop()
    assert room.turn_limiter.taken == 0


def test_a_client_has_a_share_of_the_slots_and_of_the_line() -> None:
    """However many sessions it has, another client finds a slot, and then a place."""
    room = Room(4, 4, 0.75)
    own = [room.claim(f"a{n}", "a") for n in range(7)]
    assert [claim.room and claim.take() for claim in own] == [True] * 3 + [False] * 4
    assert (room.turn_limiter.taken, room.turn_limiter.waiting) == (3, 3)
    first, second, third = (room.claim(name, name) for name in "bcd")
    assert (first.take(), second.take(), third.room) == (True, False, False)
    first.drop()
    assert room.granted == ["c"]  # those before it have their share
    own[0].drop()
    assert room.granted == ["c", "a3"]
    for claim in (*own, second):
        claim.drop()
    assert (room.turn_limiter.taken, room.turn_limiter.waiting) == (0, 0)
    assert not room.turn_limiter._taken_by
    assert not room.turn_limiter._waiting_by


def test_clients_that_cannot_be_told_apart_have_no_share() -> None:
    """Behind a Unix socket all come from nowhere."""
    room = Room(4, 4, 0.25)
    assert [room.claim("x").take() for _ in range(5)] == [True] * 4 + [False]

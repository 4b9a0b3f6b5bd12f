"""Test suite of the store interface, for every implementation.

A test module of an implementation imports the tests and defines a fixture `make_store`, which returns new
stores on the same data: `make_store()` opens nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable

from bargein_protocol import Epoch, InputAccepted, InputId, InputText, Seq, SessionId, TurnId
from bargein_server.core.records import Changes, Head, Piece, StoredTurn, encode
from bargein_server.stores.interface import ListPlace, Outcome, Store, Write

MakeStore = Callable[[], Store]

S1, S2 = SessionId("s_1"), SessionId("s_2")
T1, T2 = TurnId("t_1"), TurnId("t_2")


def head(session_id: SessionId = S1, principal: str | None = None, **fields: object) -> bytes:
    """Return an encoded head."""
    return encode(Head(session_id, Epoch("e"), principal, **fields))  # type: ignore[arg-type]


def turn(turn_id: TurnId = T1, text: str = "hello", stage: str = "running") -> bytes:
    """Return an encoded turn."""
    asked = InputText(id=InputId(f"i_{turn_id}"), text=text)
    return encode(StoredTurn(turn_id, asked, Seq(1), stage, started=True))  # type: ignore[arg-type]


def piece(seq: int, text: str, turn_id: TurnId = T1) -> tuple[TurnId, int, bytes]:
    """Return an encoded piece of output."""
    return turn_id, seq, encode(Piece(turn_id, Seq(seq), True, text))


def first(
    session_id: SessionId = S1, principal: str | None = None, used_at: float = 10.0, **fields: object
) -> Write:
    """Return the first write of a session."""
    values: dict[str, object] = {"seq": Seq(1), "mark": 1, "whole": True, "head": head(session_id, principal)}
    return Write(session_id, "1.a", 0, Changes(**(values | fields)), principal, 5.0, used_at)  # type: ignore[arg-type]


def later(
    follows: int, session_id: SessionId = S1, fence: str = "1.a", released: bool = False, **fields: object
) -> Write:
    """Return a write after others."""
    values: dict[str, object] = {"seq": Seq(2), "mark": 2}
    return Write(session_id, fence, follows, Changes(**(values | fields)), None, 5.0, 20.0, released)  # type: ignore[arg-type]


async def opened(make_store: MakeStore) -> Store:
    """Return an open store."""
    store = make_store()
    await store.open()
    return store


async def test_an_unknown_session_is_none(make_store: MakeStore) -> None:
    """Reading what nobody has written."""
    store = await opened(make_store)
    assert await store.read(S1) is None
    await store.close()


async def test_what_was_written_is_there_after_opening_anew(make_store: MakeStore) -> None:
    """Head, turns in the order of their places, answers and pieces."""
    store = await opened(make_store)
    answer = InputAccepted(seq=Seq(1), turn_id=T1, input_id=InputId("i"))
    write = first(
        turns=[(T2, 7, turn(T2)), (T1, 3, turn(T1))],
        replies=[("i", encode(answer))],
        pieces=[piece(8, "one "), piece(9, "two")],
    )
    assert await store.write([write]) == [Outcome.STORED]
    await store.close()
    store = await opened(make_store)
    found = await store.read(S1)
    assert found is not None
    stored = found.stored
    assert (stored.head.session_id, stored.head.epoch, stored.clean) == (S1, "e", False)
    assert [(place, each.turn_id) for place, each in stored.turns] == [(3, T1), (7, T2)]
    assert stored.replies == [("i", answer)]
    assert [each.text for each in stored.pieces] == ["one ", "two"]
    assert (found.fence, found.used_at) == ("1.a", 10.0)
    await store.close()


async def test_a_later_write_changes_what_it_names(make_store: MakeStore) -> None:
    """Turns are replaced and dropped, pieces added, and those of an ended turn are gone."""
    store = await opened(make_store)
    await store.write([first(turns=[(T1, 1, turn(T1)), (T2, 2, turn(T2))], pieces=[piece(3, "a")])])
    await store.write([later(1, pieces=[piece(4, "b"), piece(5, "c", T2)])])
    await store.write([later(2, turns=[(T1, 9, turn(T1, "other"))], dropped=[T2], ended=[T1], seq=Seq(6))])
    found = await store.read(S1)
    assert found is not None
    assert [(place, each.input.text) for place, each in found.stored.turns] == [(9, "other")]
    assert [each.text for each in found.stored.pieces] == ["c"]
    assert found.stored.seq == 6
    await store.close()


async def test_output_alone_can_be_read_by_the_next_process(make_store: MakeStore) -> None:
    """The process that wrote it is killed: nothing was released."""
    store = await opened(make_store)
    await store.write([first()])
    for number in range(1, 5):
        assert await store.write([later(number, pieces=[piece(number + 1, f"{number}")])]) == [Outcome.STORED]
    await store.close()
    store = await opened(make_store)
    found = await store.read(S1)
    assert found is not None
    assert not found.stored.clean
    assert "".join(each.text or "" for each in found.stored.pieces) == "1234"
    await store.close()


async def test_the_first_answer_to_a_request_stays(make_store: MakeStore) -> None:
    """A resend changes nothing, and the order is that of the requests."""
    store = await opened(make_store)
    one, two = (encode(InputAccepted(seq=Seq(n), turn_id=T1, input_id=InputId("i"))) for n in (1, 2))
    await store.write([first(replies=[("b", one), ("a", one)])])
    await store.write([later(1, replies=[("b", two), ("c", two)])])
    found = await store.read(S1)
    assert found is not None
    assert [(name, getattr(reply, "seq", None)) for name, reply in found.stored.replies] == [
        ("b", 1), ("a", 1), ("c", 2),
    ]  # fmt: skip
    await store.close()


async def test_a_release_is_clean_until_the_next_claim(make_store: MakeStore) -> None:
    """The next owner knows that nothing is missing."""
    store = await opened(make_store)
    await store.write([first()])
    await store.write([later(1, released=True)])
    found = await store.read(S1)
    assert found is not None
    assert found.stored.clean
    assert await store.claim(S1, found.fence, found.writes, "2.b")
    again = await store.read(S1)
    assert again is not None
    assert not again.stored.clean
    await store.close()


async def test_one_of_two_claims_wins(make_store: MakeStore) -> None:
    """Compare and set: the slower one gets nothing."""
    store = await opened(make_store)
    await store.write([first()])
    found = await store.read(S1)
    assert found is not None
    assert await store.claim(S1, found.fence, found.writes, "2.b")
    assert not await store.claim(S1, found.fence, found.writes, "2.c")
    await store.close()


async def test_the_old_owner_is_fenced(make_store: MakeStore) -> None:
    """After a claim its writes change nothing, a whole one neither."""
    store = await opened(make_store)
    await store.write([first()])
    found = await store.read(S1)
    assert found is not None
    await store.claim(S1, found.fence, found.writes, "2.b")
    assert await store.write([later(1, turns=[(T1, 1, turn())])]) == [Outcome.FENCED]
    assert await store.write([first()]) == [Outcome.FENCED]
    assert await store.write([later(found.writes, fence="2.b", pieces=[piece(3, "x")])]) == [Outcome.STORED]
    found = await store.read(S1)
    assert found is not None
    assert found.stored.turns == []
    await store.close()


async def test_a_store_that_forgot_says_so(make_store: MakeStore) -> None:
    """A write that follows one which is not there is answered `BEHIND` and changes nothing."""
    store = await opened(make_store)
    assert await store.write([later(1, turns=[(T1, 1, turn())])]) == [Outcome.BEHIND]
    await store.write([first()])
    assert await store.write([later(5, turns=[(T1, 1, turn())])]) == [Outcome.BEHIND]
    found = await store.read(S1)
    assert found is not None
    assert found.stored.turns == []
    await store.close()


async def test_a_later_owner_repairs_a_store_that_went_back(make_store: MakeStore) -> None:
    """Its fence has a higher counter: it is asked for everything, and the one before stays out."""
    store = await opened(make_store)
    await store.write([first()])  # as it was before the claim that the store has forgotten
    assert await store.write([later(7, fence="2.b")]) == [Outcome.BEHIND]
    repair = later(7, fence="2.b", whole=True, head=head(), turns=[(T1, 1, turn())])
    assert await store.write([repair]) == [Outcome.STORED]
    assert await store.write([later(1)]) == [Outcome.FENCED]
    assert await store.write([later(8, fence="2.c")]) == [Outcome.FENCED]
    found = await store.read(S1)
    assert found is not None
    assert (found.fence, found.writes) == ("2.b", 8)
    await store.close()


async def test_a_whole_write_replaces_everything(make_store: MakeStore) -> None:
    """Nothing of before is left."""
    store = await opened(make_store)
    await store.write(
        [
            first(
                turns=[(T1, 1, turn(T1))],
                pieces=[piece(3, "a")],
                replies=[("i", b'{"type":"input.rejected","input_id":"i","code":"busy"}')],
            )
        ]
    )
    await store.write([first(turns=[(T2, 1, turn(T2))])])
    found = await store.read(S1)
    assert found is not None
    assert [each.turn_id for _, each in found.stored.turns] == [T2]
    assert not found.stored.pieces
    assert not found.stored.replies
    await store.close()


async def test_sessions_of_a_batch_do_not_mix(make_store: MakeStore) -> None:
    """One is refused, the other is stored, and each has its own."""
    store = await opened(make_store)
    assert await store.write([later(3, S1), first(S2, pieces=[piece(2, "two")])]) == [
        Outcome.BEHIND, Outcome.STORED,
    ]  # fmt: skip
    assert await store.write([first(S1, pieces=[piece(2, "one")])]) == [Outcome.STORED]
    for session_id, text in ((S1, "one"), (S2, "two")):
        found = await store.read(session_id)
        assert found is not None
        assert [each.text for each in found.stored.pieces] == [text]
    await store.close()


async def test_a_deleted_session_does_not_come_back(make_store: MakeStore) -> None:
    """Its owner, which has not noticed, is told so, whatever it writes."""
    store = await opened(make_store)
    await store.write([first(turns=[(T1, 1, turn())], pieces=[piece(3, "a")])])
    assert await store.delete(S1)
    assert not await store.delete(S1)
    assert await store.read(S1) is None
    assert await store.write([later(1, pieces=[piece(4, "b")])]) == [Outcome.CLOSED]
    assert await store.write([first()]) == [Outcome.CLOSED]
    assert await store.read(S1) is None
    await store.close()


async def test_lists_are_of_one_principal_and_in_order(make_store: MakeStore) -> None:
    """The last used first, bounded, and continued with `before`."""
    store = await opened(make_store)
    for number in range(5):
        await store.write(
            [first(SessionId(f"s_{number}"), "ann", 100.0 + number, turns=[(T1, 1, turn(text="why?"))])]
        )
    await store.write([first(SessionId("s_bob"), "bob")])
    await store.write([first(SessionId("s_nobody"), None)])
    found = await store.sessions("ann", limit=3)
    assert [each.session_id for each in found] == ["s_4", "s_3", "s_2"]
    assert (found[0].title, found[0].turns, found[0].created_at) == ("why?", 1, 5.0)
    assert [each.session_id for each in await store.sessions("ann", before=(102.0, SessionId("s_2")))] == [
        "s_1",
        "s_0",
    ]
    assert [each.session_id for each in await store.sessions(None)] == ["s_nobody"]
    assert len(await store.sessions(None, every=True)) == 7
    await store.close()


async def test_sessions_of_one_moment_are_listed_once(make_store: MakeStore) -> None:
    """As a server that stops releases many in one batch."""
    store = await opened(make_store)
    ids = [SessionId(f"s_{number}") for number in range(7)]
    await store.write([first(each, "ann", 100.0, turns=[(T1, 1, turn())]) for each in ids])
    listed: list[SessionId] = []
    before: ListPlace | None = None
    while page := await store.sessions("ann", limit=3, before=before):
        listed += [each.session_id for each in page]
        before = (page[-1].used_at, page[-1].session_id)
    assert listed == ids[::-1]
    await store.close()


async def test_a_name_stays_whatever_the_owner_writes(make_store: MakeStore) -> None:
    """Until it is taken away, or the session is forgotten."""
    store = await opened(make_store)
    assert not await store.rename(S1, "Trip")
    await store.write([first(principal="ann", turns=[(T1, 1, turn(text="why?"))])])
    [listed] = await store.sessions("ann")
    assert (listed.title, listed.named) == ("why?", False)
    assert await store.rename(S1, "Trip — Łódź")
    await store.write([later(1, head=head(principal="ann"))])
    await store.write([first(principal="ann", turns=[(T1, 1, turn(text="why?"))])])
    await store.close()
    store = await opened(make_store)
    [listed] = await store.sessions("ann")
    assert (listed.title, listed.named, listed.turns) == ("Trip — Łódź", True, 1)
    found = await store.read(S1)
    assert found is not None
    assert found.name == "Trip — Łódź"
    assert await store.rename(S1, None)
    [listed] = await store.sessions("ann")
    assert (listed.title, listed.named) == ("why?", False)
    found = await store.read(S1)
    assert found is not None
    assert found.name is None
    await store.rename(S1, "secret")
    await store.delete(S1)
    assert not await store.rename(S1, "secret")
    await store.close()


async def test_old_sessions_are_forgotten_unless_they_are_in_use(make_store: MakeStore) -> None:
    """By the time of their last use."""
    store = await opened(make_store)
    for session_id, used_at in ((S1, 10.0), (S2, 10.0), (SessionId("s_3"), 30.0)):
        await store.write([first(session_id, used_at=used_at, pieces=[piece(2, "a")])])
    assert await store.sweep(20.0, [S2]) == 1
    assert await store.read(S1) is None
    assert await store.read(S2) is not None
    assert await store.read(SessionId("s_3")) is not None
    await store.close()


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]

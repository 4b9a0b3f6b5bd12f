"""Cost of codec and core without a socket, in nanoseconds per event."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import bargein_protocol as bp
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.session import Session
from bargein_server.core.turn_limiter import Permit, TurnLimiter
from bargein_server.settings import Settings
from bargein_server.transport.connection import WRITE_BYTES

from .floor import TOKEN

EVENTS = 20_000
TRIES = 7


def alone() -> dict[str, float]:
    """Return nanoseconds per event by operation, the minimum of several runs."""
    delta = bp.TextDelta(seq=bp.Seq(100_000), turn_id=bp.TurnId("t_8432156e_1"), text=TOKEN)
    ask = bp.JSON.encode(bp.InputText(id=bp.InputId("in_1"), text=TOKEN))
    tasks = {f"{codec.subprotocol}: encode text.delta": _encode(codec, delta) for codec in bp.CODECS.values()}
    tasks["bargein.v1.json: decode input.text"] = lambda: _repeat(lambda: bp.JSON.decode_client(ask))
    tasks["core: a token, from the agent to the frame"] = _tokens
    tasks["core: an input and its interrupt, with all answers"] = _interrupts
    return {name: min(task() for _ in range(TRIES)) * 1e9 / EVENTS for name, task in tasks.items()}


def _encode(codec: bp.Codec, event: bp.ServerEvent) -> Callable[[], float]:
    return lambda: _repeat(lambda: codec.encode(event))


def _repeat(act: Callable[[], object]) -> float:
    """Return the seconds for all events."""
    started = time.perf_counter()
    for _ in range(EVENTS):
        act()
    return time.perf_counter() - started


def _session() -> Session:
    limits, ids = Settings(), count(1)
    session = Session(
        bp.SessionId("s"),
        bp.Epoch("e"),
        MemoryLog(limits.max_log_events, limits.max_log_bytes),
        bp.JSON,
        limits,
        Permit(TurnLimiter(limits.max_running_turns, limits.max_waiting_turns), lambda: None),
        lambda: bp.TurnId(f"t_8432156e_{next(ids)}"),
        0.0,
    )
    session.attach(bp.JSON, bp.Token("k"), 0.0)
    _drain(session)
    return session


def _drain(session: Session) -> None:
    while session.delivery.next_frames(True, WRITE_BYTES):
        pass
    session.commands()


def _tokens() -> float:
    session = _session()
    session.receive(bp.InputText(id=bp.InputId("i"), text="x"), 0.0)
    _drain(session)
    turn, delivery = bp.TurnId("t_8432156e_1"), session.delivery
    utterance = delivery.begin_utterance(turn)

    def token() -> None:
        nonlocal utterance
        assert utterance is not None
        if utterance.say(TOKEN, 0.0) is None:
            delivery.enter(utterance)
            utterance = delivery.begin_utterance(turn)
            assert utterance is not None
            utterance.say(TOKEN, 0.0)

    return _repeat(token)


def _interrupts() -> float:
    session, ids = _session(), count(1)

    def turn() -> None:
        n = next(ids)
        session.receive(bp.InputText(id=bp.InputId(f"i{n}"), text="x"), 0.0)
        _drain(session)
        session.receive(bp.Interrupt(id=bp.InterruptId(f"x{n}"), input_id=bp.InputId(f"i{n}")), 0.0)
        _drain(session)
        session.cleaned_up(bp.TurnId(f"t_8432156e_{n}"), 0.0)

    return _repeat(turn)

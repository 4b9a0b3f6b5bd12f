"""Model of a server: only the rules of numbering, answers and resume.

It has no time, no sockets and no agent; a test says what happens next. What it says to a client
waits in `down` until the test delivers it or breaks the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import structs

import bargein_protocol as bp
from client_script import accepted, ended, opened, queued, replay_done, result, session_lost, started, text


@dataclass
class ModelTurn:
    """One turn as the server sees it."""

    turn_id: str
    input_id: str
    fold: bp.TurnFold
    protected: bool = False
    doomed: str | None = None
    """Why it ends when its protected section is over."""

    @property
    def over(self) -> bool:
        return self.fold.ended is not None


@dataclass
class ModelServer:
    """One session, or several in a row when it forgets them."""

    generation: int = 1
    attached: bool = False
    log: list[bp.NumberedEvent] = field(default_factory=list)
    kept_from: int = 0
    """Numbers up to this one cannot be replayed."""
    turns: dict[str, ModelTurn] = field(default_factory=dict)
    waiting: list[ModelTurn] = field(default_factory=list)
    running: ModelTurn | None = None
    answers: dict[str, bp.ServerEvent] = field(default_factory=dict)
    remembered: dict[str, str] = field(default_factory=dict)
    down: deque[bp.ServerEvent] = field(default_factory=deque)
    token: int = 0

    # --- what a client does ----------------------------------------------------------------------

    def receive(self, event: bp.ClientEvent) -> None:
        if isinstance(event, bp.SessionOpen):
            self._open(event)
        elif isinstance(event, bp.InputText):
            self._answer(event.id, lambda: self._input(event))
        elif isinstance(event, bp.Interrupt):
            self._answer(event.id, lambda: self._interrupt(event))

    def detach(self) -> None:
        self.attached = False
        self.down.clear()

    def _open(self, event: bp.SessionOpen) -> None:
        self.token += 1
        resume = event.resume
        if resume is None or resume.session_id != f"s_{self.generation}":
            if self.log or self.turns:
                self.forget()
            self.attached = True
            self._opened(None if resume is None else "unknown_session", resumed=False)
            for lost in event.pending or ():
                self.down.append(session_lost(lost.id))
            return
        self._opened(None, resumed=True)
        for pending in event.pending or ():
            self.receive(pending)  # its numbered events go to the log, as no one is attached yet
        self._replay(resume.cursor.seq)
        self.attached = True

    def _opened(self, reason: str | None, *, resumed: bool) -> None:
        name = str(self.generation)
        self.down.append(
            opened(
                resumed=resumed,
                reason=reason,
                session=f"s_{name}",
                epoch=f"e_{name}",
                token=f"k_{self.token}",
            )
        )

    def _replay(self, after: int) -> None:
        if after < self.kept_from:
            folds = [t.fold.folded() for t in self.turns.values() if not t.over or t.fold.last_seq > after]
            self.down.append(bp.Snapshot(seq=bp.Seq(len(self.log)), turns=folds))
        else:
            self.down.extend(self.log[after:])
        self.down.append(replay_done(len(self.log)))

    def _answer(self, request_id: str, act: Callable[[], bp.ServerEvent]) -> None:
        known = self.answers.get(request_id)
        if known is None:
            known = self.answers[request_id] = act()
        elif isinstance(known, (bp.InputAccepted, bp.InputQueued)):
            self.down.append(structs.replace(known, seq=bp.NO_SEQ, duplicate=True))
        else:
            self.down.append(known)

    def _input(self, event: bp.InputText) -> bp.ServerEvent:
        old = self.running
        if old is not None and event.on_busy == "reject":
            rejected = bp.InputRejected(input_id=event.id, code="busy")
            self.down.append(rejected)
            return rejected
        supersedes = event.on_busy in (None, "interrupt")
        waits = old is not None and (old.protected or not supersedes)
        if old is not None and supersedes:
            if old.protected:
                old.doomed = old.doomed or "superseded"
            else:
                self._end(old, "interrupted", "superseded", go_on=False)
        turn = self._turn(event.id)
        answer: bp.InputAccepted | bp.InputQueued
        if waits:
            answer = queued(self._next, turn.turn_id, event.id)
            self.waiting.insert(0 if supersedes else len(self.waiting), turn)
            self._number(answer)
        else:
            answer = accepted(self._next, turn.turn_id, event.id)
            self._number(answer)
            reason = self.remembered.pop(event.id, None)
            if reason is not None:
                self._end(turn, "interrupted", reason)
            else:
                self._start(turn)
        return answer

    def _interrupt(self, event: bp.Interrupt) -> bp.ServerEvent:
        turn = self._named(event)
        outcome: bp.Outcome
        if turn is None:
            outcome = "deferred" if event.input_id is not None else "unknown_turn"
            if event.input_id is not None:
                self.remembered[event.input_id] = "client"
        elif turn.over:
            outcome = "already_ended"
        elif turn.protected:
            outcome, turn.doomed = "deferred", "client"
        else:
            outcome = "interrupted"
        answer = result(event.id, outcome, None if turn is None else turn.turn_id)
        self.down.append(answer)
        if outcome == "interrupted" and turn is not None:
            self._end(turn, "interrupted", "client")
        return answer

    def _named(self, event: bp.Interrupt) -> ModelTurn | None:
        if event.turn_id is not None:
            return self.turns.get(event.turn_id)
        return next((t for t in self.turns.values() if t.input_id == event.input_id), None)

    # --- what the agent does ---------------------------------------------------------------------

    def say(self, words: str) -> None:
        if self.running is not None:
            self._number(text(self._next, self.running.turn_id, words))

    def finish(self) -> None:
        if self.running is not None:
            doomed = self.running.doomed
            self._end(self.running, "interrupted" if doomed else "completed", doomed or "completed")

    def protect(self) -> None:
        if self.running is not None:
            self.running.protected = True

    def unprotect(self) -> None:
        turn = self.running
        if turn is not None and turn.protected:
            turn.protected = False
            if turn.doomed is not None:
                self._end(turn, "interrupted", turn.doomed)

    # --- what goes wrong -------------------------------------------------------------------------

    def forget(self) -> None:
        """Lose the session, as a restart does."""
        self.generation += 1
        self.log, self.kept_from = [], 0
        self.turns, self.waiting, self.running = {}, [], None
        self.answers, self.remembered = {}, {}

    def trim(self) -> None:
        """Lose the beginning of the log."""
        self.kept_from = len(self.log)

    # --- numbering -------------------------------------------------------------------------------

    @property
    def _next(self) -> int:
        return len(self.log) + 1

    def _number(self, event: bp.NumberedEvent) -> None:
        self.log.append(event)
        if isinstance(event, bp.TurnEvent):
            self.turns[event.turn_id].fold.apply(event)
        if self.attached:
            self.down.append(event)

    def _turn(self, input_id: str) -> ModelTurn:
        turn_id = f"t_{self.generation}_{len(self.turns) + 1}"
        fold = bp.TurnFold(bp.TurnId(turn_id), bp.InputId(input_id))
        turn = self.turns[turn_id] = ModelTurn(turn_id, input_id, fold)
        return turn

    def _start(self, turn: ModelTurn) -> None:
        self.running = turn
        self._number(started(self._next, turn.turn_id, turn.input_id))

    def _end(self, turn: ModelTurn, status: bp.TurnStatus, reason: str, *, go_on: bool = True) -> None:
        if turn in self.waiting:
            self.waiting.remove(turn)
        if turn is self.running:
            self.running = None
        self._number(ended(self._next, turn.turn_id, status, reason))
        if go_on and self.running is None and self.waiting:
            self._start(self.waiting.pop(0))

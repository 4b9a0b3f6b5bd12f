"""Utterances, and the requests for their words that have no answer yet."""

from __future__ import annotations

from msgspec import Struct

from bargein_protocol import InputId, TurnId

from .. import CancelRecognition, Command, Judge, Transcribe
from .words import Transcript


class Utterance(Struct):
    """Speech between two silences.

    Attributes:
        number: Its number in the session.
        start: Position of its first sound, the prefix included.
        covered: Position of the last speech that is in the transcript or in the request for it.
        turn: The turn that it held; None without one.
        input_id: Id of the client's commit; None without one.
        stopped: Whether it is over and only waits for its transcript.
        transcript: The transcript of all speech up to `covered`; None while a request for it waits.
        quick: The transcript that tells words from coughs.
        complete: Whether the judge takes it for complete.
        shown: Words that the client has got while the transcript was not complete.
        partial_at: Speech in samples after which the words so far were asked for last.
    """

    number: int
    start: int
    covered: int = 0
    turn: TurnId | None = None
    input_id: InputId | None = None
    stopped: bool = False
    transcript: Transcript | None = None
    quick: Transcript | None = None
    complete: bool = False
    shown: str = ""
    partial_at: int = 0


class Recognitions:
    """Requests of one session to its recogniser and judge.

    An answer counts only for the newest request of its kind for an utterance, and only once.
    """

    __slots__ = ("_full", "_ids", "_judged", "_partial", "_quick")

    def __init__(self) -> None:
        self._ids = 0
        self._full: dict[int, Utterance] = {}
        self._quick: dict[int, Utterance] = {}
        self._judged: dict[int, Utterance] = {}
        self._partial: dict[int, Utterance] = {}

    def transcribe(self, utterance: Utterance, end: int, *, quick: bool) -> list[Command]:
        """Return the commands for the transcript of an utterance up to a position."""
        table = self._quick if quick else self._full
        commands = self._cancel(table, utterance) + self._cancel(self._partial, utterance)
        self._ids += 1
        table[self._ids] = utterance
        if not quick:
            utterance.transcript, utterance.complete = None, False
        return [*commands, Transcribe(self._ids, utterance.number, utterance.start, end, quick)]

    def judge(self, utterance: Utterance, end: int) -> list[Command]:
        """Return the commands for the judgement of an utterance up to a position."""
        commands = self._cancel(self._judged, utterance)
        self._ids += 1
        self._judged[self._ids] = utterance
        return [*commands, Judge(self._ids, utterance.number, utterance.start, end)]

    def partial(self, utterance: Utterance, end: int) -> Command:
        """Return the command for the words so far of an utterance."""
        self._ids += 1
        self._partial[self._ids] = utterance
        return Transcribe(self._ids, utterance.number, utterance.start, end, False, True)

    def has_partial(self, utterance: Utterance) -> bool:
        """Return whether a request for the words so far is without an answer."""
        return any(other is utterance for other in self._partial.values())

    def asked_by(self, request: Transcribe) -> Utterance | None:
        """Return the utterance of an open request, None for any other request."""
        return self._table(request).get(request.request)

    def transcribed(self, request: Transcribe) -> Utterance | None:
        """Return the utterance of an answer; None when the answer does not count."""
        return self._table(request).pop(request.request, None)

    def _table(self, request: Transcribe) -> dict[int, Utterance]:
        return self._partial if request.partial else self._quick if request.quick else self._full

    def judged(self, request: Judge) -> Utterance | None:
        """Return the utterance of an answer; None when the answer does not count."""
        return self._judged.pop(request.request, None)

    def stop(self, utterance: Utterance, *, dropped: bool) -> list[Command]:
        """Cancel the requests that an utterance which is over does not need."""
        commands = [
            command
            for table in (self._quick, self._judged, self._partial)
            for command in self._cancel(table, utterance)
        ]
        return commands + self._cancel(self._full, utterance) if dropped else commands

    def has_commit(self, input_id: InputId) -> bool:
        """Return whether a committed utterance waits for its transcript."""
        return any(utterance.input_id == input_id for utterance in self._full.values())

    def _cancel(self, table: dict[int, Utterance], utterance: Utterance) -> list[Command]:
        requests = [request for request, other in table.items() if other is utterance]
        for request in requests:
            del table[request]
        return [CancelRecognition(request) for request in requests]

"""The answers that were given, by the id of what they answer.

An id makes a resend harmless: it gets the first answer again, marked as a duplicate and without a
number, and nothing happens twice (contract 4).
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from msgspec.structs import replace

from bargein_protocol import InputAccepted, InputQueued, InputRejected, InterruptResult, Seq

Answer = InputAccepted | InputQueued | InputRejected | InterruptResult

REMEMBERED = 1024


class ReplyCache:
    """The last answers of a session, oldest forgotten first."""

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[str, Answer] = {}

    def remember(self, request_id: str, answer: Answer) -> None:
        """Keep the first answer to a request."""
        self._by_id[request_id] = answer
        if len(self._by_id) > REMEMBERED:
            del self._by_id[next(iter(self._by_id))]

    @property
    def ids(self) -> Container[str]:
        """The ids of the requests that were answered; it tells what is so whenever it is asked."""
        return self._by_id.keys()

    def again(self, request_id: str) -> Answer | None:
        """Return the answer for a resend, None when the id is new."""
        answer = self._by_id.get(request_id)
        if answer is None:
            return None
        if isinstance(answer, (InputAccepted, InputQueued)):
            return replace(answer, seq=Seq(0), duplicate=True)
        return replace(answer, duplicate=True)

    def replies_since(self, seq: Seq) -> Iterator[InputAccepted | InputQueued]:
        """Yield the answers to inputs that were numbered after `seq`."""
        for answer in self._by_id.values():
            if isinstance(answer, (InputAccepted, InputQueued)) and answer.seq > seq:
                yield answer

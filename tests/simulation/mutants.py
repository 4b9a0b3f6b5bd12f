"""Guards that can be taken out of the server and of the client, to see whether anybody misses them."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from msgspec import Struct

from bargein_client.core import ClientCore
from bargein_client.inbox import Inbox
from bargein_client.outbox import Outbox
from bargein_server.core.identity import Identity
from bargein_server.core.liveness import Liveness
from bargein_server.core.output_pump import OutputPump
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.reply_cache import ReplyCache
from bargein_server.core.requests import Requests
from bargein_server.core.sequencer import Sequencer
from bargein_server.core.session import Session
from bargein_server.core.turn_record import TurnRecord
from bargein_server.core.turn_scheduler import TurnScheduler
from bargein_server.core.utterance import Utterance
from bargein_server.hosting.host import SessionHost
from bargein_server.hosting.runner import Runner
from bargein_server.transport.connection import Connection


class Mutant(Struct):
    """A change to the source of a function.

    Args:
        what: What is missing after it.
        owner: Whose method it is.
        name: Which.
        before: What stood there.
        after: What stands there now.
    """

    what: str
    owner: type
    name: str
    before: str
    after: str

    def planted(self) -> Any:
        """Return the changed function.

        Raises:
            ValueError: The source does not have what is to be changed, or more than once.
        """
        function: Any = getattr(self.owner, self.name)
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.before) != 1:
            raise ValueError(f"{self.owner.__name__}.{self.name} has changed: change the mutant, too")
        changed = source.replace(self.before, self.after)
        scope: dict[str, Any] = {}
        exec(f"from __future__ import annotations\n{changed}", function.__globals__, scope)
        return scope[self.name]


MUTANTS = [
    Mutant(
        "the fence",
        Session,
        "emit",
        "or turn.id != turn_id or turn.state is not State.RUNNING",
        "",
    ),
    Mutant(
        "the purge",
        TurnRecord,
        "purge",
        "spared: list[_Waiting] = []",
        "return",
    ),
    Mutant(
        "one answer",
        ReplyCache,
        "again",
        "if answer is None:",
        "if True:",
    ),
    Mutant(
        "which turn",
        Requests,
        "_target",
        "event.turn_id is None and event.input_id is None",
        "True",
    ),
    Mutant(
        "silence first",
        Requests,
        "_interrupt",
        "self._stream.answer(result)",
        "self._stream.answer(result); self._stream.answer(result)",
    ),
    Mutant(
        "the token",
        Identity,
        "proves",
        "return good",
        "return True",
    ),
    Mutant(
        "the end of an old token",
        Identity,
        "confirm",
        'self._previous = b""',
        "pass",
    ),
    Mutant(
        "a number in a replay",
        Sequencer,
        "next_replayed",
        "seq = Seq(self._replayed + 1)",
        "seq = Seq(min(self._replayed + 2, self._log.top))",
    ),
    Mutant(
        "the cursor",
        Sequencer,
        "replay_from",
        "self._replayed = cursor.seq",
        "self._replayed = Seq(max(0, cursor.seq - 1))",
    ),
    Mutant(
        "heartbeats",
        Liveness,
        "_check_silence",
        "self._stream.answer",
        "str",
    ),
    Mutant(
        "trimming",
        MemoryLog,
        "_trim",
        "most, room =",
        "return\n    most, room =",
    ),
    Mutant(
        "sections",
        TurnScheduler,
        "ask",
        "if not current.guarded:",
        "if True:",
    ),
    Mutant(
        "holds",
        OutputPump,
        "next_frames",
        "turn is None or turn.held_until is not None",
        "turn is None",
    ),
    Mutant(
        "forgetting turns",
        TurnScheduler,
        "_forget_old",
        "while self._too_many()",
        "while False",
    ),
    Mutant(
        "the turns of a snapshot",
        OutputPump,
        "send_snapshot",
        "for turn in turns])",
        "for turn in turns if turn.fold.ended is None])",
    ),
    Mutant(
        "answers to what is pending",
        Session,
        "attach",
        "self._requests.handle(event)",
        "pass",
    ),
    Mutant(
        "the end of those who went away",
        Liveness,
        "tick",
        "self._table.client_gone()",
        "pass",
    ),
    Mutant(
        "no_output",
        Session,
        "_check_output",
        "self._table.end(turn, NO_OUTPUT)",
        "return",
    ),
    Mutant(
        "the report of a cleanup",
        Runner,
        "_report",
        "self._live.runner_ended(self._id)",
        "pass",
    ),
    Mutant(
        "waking those who wait",
        SessionHost,
        "flush",
        "self._wake()",
        "pass",
    ),
    Mutant(
        "the bound of answers",
        Connection,
        "write_out",
        "self._past_full > self._sessions.settings.answer_bytes",
        "False",
    ),
    Mutant(
        "muting in the client",
        Inbox,
        "_withhold",
        "if turn_id not in self._withheld:",
        "if False:",
    ),
    Mutant(
        "what is pending in the client",
        ClientCore,
        "attach",
        "pending=pending or None",
        "pending=None",
    ),
    Mutant(
        "the entry of what was said",
        OutputPump,
        "enter",
        "if not utterance.pieces:",
        "if True:",
    ),
    Mutant(
        "text that was put off",
        SessionHost,
        "_enter",
        "for text in unsaid:",
        "for text in ():",
    ),
    Mutant(
        "pauses of agents that never pause",
        Runner,
        "_run",
        "elif now - started > time_slicer.slice_s:",
        "elif False:",
    ),
    Mutant(
        "the end of a task that broke",
        Runner,
        "_done",
        "if not (self.stopped or self._finished):",
        "if False:",
    ),
    Mutant(
        "the cancel",
        Runner,
        "stop",
        "self.task.cancel(reason)",
        "pass",
    ),
    Mutant(
        "replacing a connection",
        Connection,
        "replaced",
        "self.close(REPLACED)",
        "pass",
    ),
    Mutant(
        "keeping requests in the client",
        Outbox,
        "admit",
        "self.unanswered[request.id] = request",
        "pass",
    ),
    Mutant(
        "what is foretold of an interrupt",
        Utterance,
        "foretell",
        "*pieces))",
        "*pieces[1:]))",
    ),
    Mutant(
        "the cursor of the client",
        ClientCore,
        "receive",
        "self._sequence.last_seq = event.seq",
        "pass",
    ),
]

"""Registry of a server's sessions and their shared resources."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from bargein_protocol import (
    JSON,
    Codec,
    Epoch,
    Resume,
    SessionId,
    SessionOpen,
    Token,
)

from ..agent import Agent, attachments_taken
from ..core.principal import Principal, id_of, known_as
from ..core.records import Head, Stored
from ..core.replay_log import MemoryLog
from ..core.session import Session
from ..core.speech.negotiation import NO_EARS
from ..core.turn_limiter import Permit, TurnLimiter
from ..guard.limits import RareLog, SnapshotBudget
from ..settings import Settings
from ..stores.interface import Store, StoredSession
from ..telemetry import NO_TELEMETRY, Telemetry
from ..turn_host import HistorySource
from ..voice.interfaces import VoiceParts
from .elsewhere import ArrivalNumbers, Elsewhere, unwatched
from .hearing.ears import ears_of
from .host import SessionHost
from .keeper import Keeper
from .lease import Lease
from .model_calls import close_model_calls, server_http_client
from .outside_history import OutsideHistory
from .own_ids import OwnIds, restore_seed
from .pacing import FlushScheduler, TimeSlicer
from .ports import ClientConnection, Closable
from .restoring import Restorer
from .session_pool import SessionPool
from .shutdown import shut_down
from .stopping import Stopping
from .threads import AuthorThreads
from .turn_ids import turn_ids
from .upstream import SERVER
from .viewer_token import ViewerToken

if TYPE_CHECKING:
    import httpx2

log = RareLog(logging.getLogger("bargein.server"))

# Snapshots that followers have not read yet. One may have 8 MiB.
MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024

NO_TRACE: Mapping[str, str] = {}

_NO_TURN = (
    "inputs are rejected, because no turn can run or wait: raise --max-running-turns, --max-waiting-turns or "
    "--max-client-share"
)


class SessionRegistry:
    """Registry of all sessions of a server; belongs to one event loop.

    Attributes:
        abandoned: Tasks of turns that did not end after two cancels.
        background: Tasks that outlive their turns: tools that an interrupt does not stop.
        flush_scheduler: Spreads the writes of many sessions.
        turn_limiter: Limit on the running turns of all sessions.
        threads: Threads for blocking functions of authors.
        attachments: Media types of the files that the agent takes.
        ears: Ears of the server; None for one that does not hear.
        streams: Open event streams, which the registry closes when the server stops.
        context: Original of every turn's context.
        draining: Whether the server stops.
        stopping: Requests to stop, which cut the waits of `shut_down` short.
        snapshots: Bytes of the snapshots that followers have not read yet.
        large_bodies: Held while a large body of a request is decoded.
        arrivals: Source of ascending numbers for connections.
        elsewhere: Sessions of other processes; None in a server of one process.
        telemetry: Telemetry of the server.
        keeper: Keeper of its sessions; None without a store.
        history: The application's own history; None without one.
        restorer: Restores stored sessions; None without a store.
        own_ids: Sessions by ids of the clients.
    """

    def __init__(
        self,
        agent: Agent,
        settings: Settings,
        telemetry: Telemetry = NO_TELEMETRY,
        context: Context | None = None,
        store: Store | None = None,
        history: HistorySource | None = None,
        elsewhere: Elsewhere | None = None,
        voice: VoiceParts | None = None,
    ) -> None:
        self.agent, self.attachments = agent, attachments_taken(agent)
        self.settings = settings
        self.telemetry = telemetry
        self.loop = asyncio.get_running_loop()
        self.time_slicer = TimeSlicer(self.loop)
        self.flush_scheduler = FlushScheduler(self.loop)
        self.turn_limiter = TurnLimiter(
            settings.max_running_turns,
            settings.max_waiting_turns,
            settings.max_client_share,
            partial(log.warning, _NO_TURN),
        )
        self.abandoned: set[asyncio.Task[Any]] = set()
        self.background: set[asyncio.Task[Any]] = set()
        self.history = OutsideHistory(history, self.background) if history is not None else None
        self.context: Context = context if context is not None else Context()
        self.context.run(SERVER.set, self)
        if settings.close_model_calls:
            close_model_calls()
        self.draining = False
        self.stopping = Stopping()
        self.threads = AuthorThreads(self.loop, settings)
        self.ears = ears_of(voice, agent, settings, self.loop, telemetry)
        self.streams: set[Closable] = set()
        self.large_bodies = asyncio.Lock()
        self.arrivals = ArrivalNumbers()
        self.elsewhere = elsewhere
        self._hosts = SessionPool(settings.max_sessions, settings.max_kept_bytes, settings.max_client_share)
        self.snapshots = SnapshotBudget(MAX_SNAPSHOT_BYTES)
        self._http_client: httpx2.AsyncClient | None = None
        name = elsewhere.name if elsewhere is not None else ""
        self.keeper = Keeper(store, settings, self.loop, name=name) if store is not None else None
        self.restorer: Restorer | None = None
        if self.keeper is not None:
            self.restorer = Restorer(
                self.keeper, settings.keep_s, self._hosts, self._make_room, self._restored
            )
        self.own_ids = OwnIds(self._hosts, self.restorer, self._make_room, self._create)

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[SessionHost]:
        return iter(self._hosts)

    def wall(self) -> float:
        """Return the time in seconds since 1970, as records have it."""
        return self.keeper.wall() if self.keeper is not None else time.time()

    @property
    def kept_bytes(self) -> int:
        """Approximate memory of all sessions."""
        return self._hosts.kept.held

    @property
    def full(self) -> bool:
        """Whether a new client gets no session, or its turn no place."""
        return (
            not self.turn_limiter.room
            or not (self._hosts.has_room("") or self._hosts.idle(""))
            or not self.may_keep("")
        )

    def open(
        self,
        event: SessionOpen,
        connection: ClientConnection,
        codec: Codec,
        principal: Principal | None = None,
        trace: Mapping[str, str] = NO_TRACE,
        owner: str = "",
    ) -> SessionHost | None:
        """Attach a connection to the session of its first frame, or a fresh one.

        Args:
            event: The first frame.
            connection: The connection.
            codec: Codec of its frames.
            principal: The authenticated client; None without authentication.
            trace: W3C trace context of the connection, by header.
            owner: The client whose share a fresh session uses (`Caller.owner`).

        Returns:
            None when a fresh session is needed and there are too many, when the store is closed, or when a
            newer connection has driven the session already; then this connection was closed.
        """
        if self.keeper is not None and self.keeper.stopping:
            return None  # a token that is told now would not be stored
        now = self.loop.time()
        host, refused = self.resumable(event.resume, principal, now)
        if host is None:
            if not self._make_room(owner):
                return None
            # The name of the process leads other processes to the session.
            name = self.elsewhere.name if self.elsewhere is not None else ""
            session_id = SessionId(f"s_{name}{secrets.token_hex(12 - len(name) // 2)}")
            host = self._create(codec, principal, owner, connection.kept, session_id)
        elif connection.number < host.newest:
            # The newest connection wins, also when the first frame of an older one was delayed.
            connection.replaced()
            return None
        elif host.connection is not None:
            host.connection.replaced()
        host.view.principal = principal  # its claims are those of the newest connection
        host.connection, host.newest = connection, connection.number
        self._hosts.attached(host)
        host.telemetry.attached(refused or ("resumed" if event.resume is not None else "fresh"), trace)
        host.core.attach(
            codec,
            Token(secrets.token_urlsafe(32)),
            now,
            resume=event.resume if refused is None else None,
            pending=event.pending or (),
            refused=refused,
            hand_over=connection.hand_over,
            audio=event.audio,
        )
        return host

    def forget(self, host: SessionHost) -> None:
        """Drop a session that has ended; its tasks continue to clean up."""
        host.forgotten()
        if host.lease is not None and self.keeper is not None:
            self.keeper.forget(host.lease)
        if self._hosts.remove(host):
            host.telemetry.closed("expired" if host.connection is None else "closed")

    def detached(self, host: SessionHost) -> None:
        """Record that the client of a session is away."""
        self._hosts.detached(host)
        self.weigh(host)

    def weigh(self, host: SessionHost) -> None:
        """Count a session's memory, and let idle sessions make room for it."""
        if not self._hosts.weigh(host):
            self.may_keep(host.owner)

    def may_keep(self, owner: str) -> bool:
        """Let idle sessions make room; return whether a client may keep more."""
        while self._hosts.kept.exceeded(owner):
            idle = self._hosts.heavy(owner)
            if idle is None:
                log.warning(
                    "inputs, metadata or sessions are refused, because the sessions keep too much: raise "
                    "--max-kept-bytes or --max-client-share"
                )
                return False
            idle.act(idle.core.expire)
        return True

    def share_used(self, owner: str) -> bool:
        """Return whether a client is refused a session while others would get one."""
        return self._hosts.share_used(owner)

    def has(self, session_id: SessionId) -> bool:
        """Return whether a session is in memory."""
        return self._hosts.has(session_id)

    def find(self, session_id: SessionId, principal: str | None) -> SessionHost | None:
        """Return a session of this principal, None without one."""
        host = self._hosts.get(session_id)
        return host if host is not None and host.view.principal == principal else None

    def find_by_viewer_token(self, session_id: SessionId, viewer_token: str) -> SessionHost | None:
        """Return the session of a viewer token, None without one."""
        host = self._hosts.get(session_id)
        return host if host is not None and host.viewer_token.is_proved_by(viewer_token) else None

    def resumable(
        self, resume: Resume | None, principal: str | None, now: float
    ) -> tuple[SessionHost | None, str | None]:
        """Return the session to resume, or the reason to refuse."""
        if resume is None:
            return None, None
        if (host := self.find(resume.session_id, principal)) is None:
            return None, "unknown_session"  # the owner of a session is not disclosed
        refused = host.core.refusal(resume, now)
        return (host, None) if refused is None else (None, refused)

    def _make_room(self, owner: str) -> bool:
        """Let an idle session make room; return whether there is room."""
        if not self.may_keep(owner):
            return False
        if self._hosts.has_room(owner):
            return True
        idle = self._hosts.idle(owner)
        if idle is None:
            setting = "--max-client-share" if self.share_used(owner) else "--max-sessions"
            log.warning("sessions are refused: raise %s", setting)
            return False
        idle.act(idle.core.expire)
        return True

    def _create(
        self, codec: Codec, principal: Principal | None, owner: str, kept: bool, session_id: SessionId
    ) -> SessionHost:
        lease = self.keeper.lease() if self.keeper is not None and kept else None
        host = self._host(session_id, codec, principal, owner, self.loop.time(), lease)
        if (persistence := host.core.persistence) is not None:
            persistence.head = Head(session_id, Epoch(""), id_of(principal), owner, created_at=self.wall())
        self._hosts.add(host)
        return host

    def take_over(self, stored: Stored) -> bool:
        """Put a session of an ending process into memory; whether there is room."""
        if self._hosts.has(stored.head.session_id) or not self._make_room(stored.head.owner):
            return False
        self._put(stored, None)
        return True

    async def release(self, host: SessionHost) -> None:
        """Give a session to the store, from which another process takes it."""
        self.moved(host)
        if self.keeper is not None and host.lease is not None:
            await self.keeper.release(host.lease)

    def moved(self, host: SessionHost) -> None:
        """Drop a session that another process has."""
        host.forgotten()
        if self._hosts.remove(host):
            host.telemetry.closed("moved")

    def _restored(self, found: StoredSession, lease: Lease) -> None:
        self._put(found.stored, lease, forgot=found.forgot)

    def _put(self, stored: Stored, lease: Lease | None, *, forgot: bool = False) -> None:
        """Put a session into memory, as one whose client is away."""
        head, now = stored.head, self.loop.time()
        host = self._host(head.session_id, JSON, known_as(head.principal), head.owner, now, lease)
        persistence = host.core.persistence or host.core.records(unwatched())
        persistence.restore(stored, now, self.wall(), forgot=forgot)
        host.viewer_token = ViewerToken(head.viewer)
        if host.history is not None:
            host.history.restored(head.seed)
        else:
            restore_seed(host.core, head.seed)
        self._hosts.add(host)
        self._hosts.detached(host)
        host.flush()
        self.weigh(host)

    def _host(
        self,
        session_id: SessionId,
        codec: Codec,
        principal: Principal | None,
        owner: str,
        now: float,
        lease: Lease | None,
    ) -> SessionHost:
        settings = self.settings
        telemetry = self.telemetry.session(session_id, principal)
        core = Session(
            session_id,
            Epoch(secrets.token_hex(4)),
            MemoryLog(settings.max_log_events, settings.max_log_bytes),
            codec,
            settings,
            Permit(self.turn_limiter, partial(self._granted, session_id), owner, self.may_keep),
            turn_ids(),
            now,
            telemetry,
            lease.changed if lease is not None else None,
            self.ears.support if self.ears is not None else NO_EARS,
            attachments=self.attachments,
        )
        if self.draining:
            core.shut_down(now)  # rejects inputs with `shutting_down`, as every session does
        return SessionHost(core, self, principal, telemetry, owner, lease)

    def _granted(self, session_id: SessionId) -> None:
        # The permit was released within a step of another session, so this one needs its own.
        self.loop.call_soon(self._admit, session_id)

    def _admit(self, session_id: SessionId) -> None:
        if (host := self._hosts.get(session_id)) is not None:
            host.act(host.core.admitted)

    def http_client(self) -> httpx2.AsyncClient:
        """Return the one HTTP client of the server, made on first use."""
        if self._http_client is None:
            self._http_client = server_http_client(self.settings)
        return self._http_client

    def take_http_client(self) -> httpx2.AsyncClient | None:
        """Return and forget the HTTP client, if one was made."""
        client, self._http_client = self._http_client, None
        return client

    async def shut_down(self) -> int:
        """Stop in order; return the number of turn tasks that still run."""
        return await shut_down(self)

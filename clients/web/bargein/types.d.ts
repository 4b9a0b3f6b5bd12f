/** The types of the library beside its classes. Events keep the names that they have on the wire. */

import type { BargeinError, SessionClosed } from "./errors.js";
import type {
  ClientEvent,
  ToolState,
  TurnState,
  InputText,
  Interrupt,
  InterruptResult,
  Limits,
  Playback,
  Played,
  ServerEvent,
  SessionOpen,
  ToolDecision,
  ToolOutput,
} from "./events.js";
import type { TrackedTurn } from "./tracked.js";
import type { Turn } from "./turn.js";

export type * from "./events.js";

export type Input = InputText;
export type PendingEvent = InputText | Interrupt;
export type PlaybackEvent = Playback;
export type ToolAnswer = ToolOutput | ToolDecision;
export type InterruptOutcome = InterruptResult["outcome"];
export type OnBusy = "interrupt" | "queue" | "reject";
export type JsonObject = { [key: string]: unknown };

/** Every event as the library moves it: the server's, those of newer servers, and its own. */
export type AnyEvent = { type: string; seq?: number; turn_id?: string | null; [field: string]: any };

/** An event of a turn has its id once it was sent. */
type Sent<E> = E extends { turn_id?: string } ? E & { turn_id: string } : E;

/** The server's event with this `type`. */
export type ServerEventOf<T extends string> = Sent<Extract<ServerEvent, { type: T }>>;

/** The picture that a turn's events fold to: a `TurnState` in which nothing is left out. */
export type Fold = Filled<Omit<TurnState, "lanes">> & { lanes: { [source: string]: Lane } };
export type Tool = Filled<ToolState>;
export type Lane = {
  text: string;
  thoughts: string;
  status: string | null;
  /** By first appearance. */
  tools: Tool[];
  /** One for each `audio.delta`, without its samples. */
  audio: { start_ms: number; duration_ms: number; text: string | null }[];
  progress: { value: number; total: number | null; unit: string | null; label: string | null } | null;
  /** How many have ended. */
  steps: number;
  /** The last value of each name. */
  data: JsonObject;
};
/** The events of agents' output by name. */
export type Outputs = {
  [E in Extract<ServerEvent, { source?: string }> as E["type"]]: Sent<E>;
};
type Filled<T> = { [K in keyof T]-?: Exclude<T[K], undefined> };

/**
 * The whole state of a turn, in place of events that do not come any more. Replace what was shown of the
 * turn by `state`.
 */
export interface TurnSnapshot {
  type: "client.turn_snapshot";
  turn_id: string;
  state: Fold;
}
/** The session goes on, and everything that was missed has been delivered. */
export interface SessionResumed {
  type: "client.resumed";
}
/** The server lost the session; this is a fresh one. Turns in flight fail as `session_lost`. */
export interface SessionRestarted {
  type: "client.restarted";
  reason: string;
}
/** A consumer was too slow: `count` events are missing here. */
export interface EventsDropped {
  type: "client.dropped";
  count: number;
}
/** The server could not give `count` events, also not after a resume. */
export interface EventsLost {
  type: "client.lost";
  count: number;
}
export type LocalEvent = TurnSnapshot | SessionResumed | SessionRestarted | EventsDropped | EventsLost;
type LocalEventOf<T extends string> = Extract<LocalEvent, { type: T }>;

/** How the session is connected. */
export type ConnectionState =
  | { state: "connecting" }
  | { state: "open" }
  /** The line is gone; the next attempt comes at `retryAt`, in milliseconds as `Date.now()` counts. */
  | { state: "reconnecting"; attempt: number; retryAt: number; code: string }
  /** A newer connection, such as another tab, drives the session. It is over here. */
  | { state: "replaced" }
  /** The session is over. */
  | { state: "closed"; reason: string; error: SessionClosed };

/** What iterating a turn yields, and its listeners get. */
export type TurnEvent =
  | Sent<Extract<ServerEvent, { turn_id?: string; seq?: number }>>
  | TurnSnapshot;

/** The events of a turn by name; `*` is every one of them. */
export type TurnEvents = { [T in TurnEvent["type"]]: Extract<TurnEvent, { type: T }> } & { "*": TurnEvent };

/** What the library keeps to itself stands in `state` and in its own events. */
type DeliveredEvent = Exclude<ServerEvent, { type: "session.opened" | "replay.done" | "snapshot" }>;

/** The events of a session by name. */
export type SessionEvents = {
  [T in DeliveredEvent["type"]]: ServerEventOf<T>;
} & {
  [T in LocalEvent["type"]]: LocalEventOf<T>;
} & {
  /** Every event that is delivered: all but the output of turns that were interrupted here. */
  "*": Sent<DeliveredEvent> | LocalEvent;
  /** The connection changed. */
  state: ConnectionState;
  /** A turn began to be known: one that was asked for here, or one that a resume brought. */
  turn: Turn;
  /** Every event that came and was not a repetition, also what is not delivered; for an inspector. */
  event: ServerEvent;
  /** Every event as it is handed to the line; for an inspector. It may hold secrets (`session.open`). */
  sent: ClientEvent;
};

/** The answer to a request, or the end of a turn. */
export interface Outcome {
  /** The request's id; null for the end of a turn whose input is not known. */
  id: string | null;
  tracked: TrackedTurn | null;
  event: AnyEvent;
}

/** What a page keeps to go on after a reload. It holds a secret: keep it in `sessionStorage`, not elsewhere. */
export interface ResumeState {
  version: 1;
  session_id: string;
  token: string;
  cursor: { epoch: string; seq: number };
  limits: Limits;
  pending: PendingEvent[];
  metadata: JsonObject;
  turns: SavedTurn[];
}
export interface SavedTurn {
  input: string | null;
  fold: TurnState;
  muters: string[];
  silenced: boolean;
  spared: boolean;
  reported: boolean;
}

/** One connection to a server. */
export interface Line {
  /** When the last frame came, by the environment's clock. */
  readonly heardAt: number;
  /** Bytes that were handed over and have not left. */
  readonly buffered: number;
  send(event: ClientEvent): void;
  /** Cuts the line now, without waiting for anything; no callback is called any more. */
  abort(): void;
}

/** Who is told what happens on a line. Exactly one `ended` comes, also when it never opened. */
export interface LineListener {
  opened(): void;
  received(event: AnyEvent): void;
  ended(end: LineEnd): void;
}
export interface LineEnd {
  code: import("./codes.js").Code;
  why: string;
  /** Whether the next attempt would end in the same way. */
  final?: boolean;
}
export type Dial = (listener: LineListener) => Line;

/** Where chance, ids, time and news of the device come from; tests bring their own. */
export interface Environment {
  newId: () => string;
  /** A number from 0 to below 1. */
  random: () => number;
  /** Milliseconds, on the scale of `Date.now()`. */
  now: () => number;
  setTimer: (act: () => void, ms: number) => unknown;
  clearTimer: (timer: any) => void;
  /** Tells of `online`, `offline`, and `visible`; returns how to stop it. */
  watch: (tell: (news: "online" | "offline" | "visible") => void) => () => void;
}

export interface SendOptions {
  /** What to do when a turn runs; the server's default is `interrupt`. */
  onBusy?: OnBusy;
  /** For the agent. */
  metadata?: JsonObject;
}
export interface InterruptOptions {
  /** Appears as the end's `reason`; `client` when absent. */
  reason?: string;
  /** What the user received; see `Turn.interrupt` for what is said when absent. */
  played?: PlaybackReport;
  /** Also end a section that the agent marked as uninterruptible. */
  force?: boolean;
}
/** What was heard of a turn, each counted from its start. Give what you know. */
export interface PlaybackReport {
  /** The last event wholly rendered or played. */
  seq?: number;
  /** Milliseconds of audio that left the loudspeaker. */
  audioMs?: number;
  /** Characters of the turn's own text shown or spoken: code points, see `countCharacters`. */
  chars?: number;
}
export type Settled<T> = { value: T } | { error: BargeinError };

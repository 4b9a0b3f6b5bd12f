/** Types of the library beside its classes. Events have the field names of the wire protocol. */

import type { BargeinError } from "./errors.js";
import type { Delivery } from "./delivery.js";
import type {
  ClientEvent,
  InputCommit,
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
  SessionRewind,
  ToolDecision,
  ToolOutput,
} from "./events.js";
import type { PlaybackReporter, TrackedTurn } from "./tracked_turn.js";
import type { ClientTurn } from "./turn.js";

export type * from "./events.js";

export type Input = InputText;
export type Commit = InputCommit;
export type PendingEvent = InputText | InputCommit | Interrupt | SessionRewind;
export type PlaybackEvent = Playback;
export type ToolAnswer = ToolOutput | ToolDecision;
export type InterruptOutcome = InterruptResult["outcome"];
export type OnBusy = "interrupt" | "queue" | "reject";
export type JsonObject = { [key: string]: unknown };

/** Any event: of the server, of a newer server, or of the library itself. */
export type AnyEvent = { type: string; seq?: number; turn_id?: string | null; [field: string]: any };

/** An event of a turn always has the turn's id on the wire. */
type Sent<E> = E extends { turn_id?: string } ? E & { turn_id: string } : E;

/** The server's event with this `type`. */
export type ServerEventOf<T extends string> = Sent<Extract<ServerEvent, { type: T }>>;

/** Folded events of a turn: a `TurnState` in which every field is present. */
export type FullTurnState = Filled<Omit<TurnState, "lanes">> & { lanes: { [source: string]: Lane } };
export type Tool = Filled<ToolState>;
export type Lane = {
  text: string;
  thoughts: string;
  status: string | null;
  /** In the order of their first events. */
  tools: Tool[];
  /** One for each `audio.delta`, without its samples. */
  audio: { start_ms: number; duration_ms: number; text: string | null }[];
  progress: { value: number; total: number | null; unit: string | null; label: string | null } | null;
  /** Number of ended steps. */
  steps: number;
  /** The last value of each name. */
  data: JsonObject;
};
/** Events of an agent's output by type. */
export type Outputs = {
  [E in Extract<ServerEvent, { source?: string }> as E["type"]]: Sent<E>;
};
type Filled<T> = { [K in keyof T]-?: Exclude<T[K], undefined> };

/**
 * The whole state of a turn, in place of events that were skipped. Replace the turn's display by `state`.
 */
export interface TurnSnapshot {
  type: "client.turn_snapshot";
  turn_id: string;
  state: FullTurnState;
}
/** The session was resumed, and all missed events have been delivered. */
export interface SessionResumed {
  type: "client.resumed";
}
/** The server lost the session; a fresh one has taken its place. Running turns fail with `session_lost`. */
export interface SessionRestarted {
  type: "client.restarted";
  reason: string;
}
/** `count` events are missing here, because this consumer was too slow. */
export interface EventsDropped {
  type: "client.dropped";
  count: number;
}
/** The server could not send `count` events, not even after a resume. */
export interface EventsLost {
  type: "client.lost";
  count: number;
}
export type LocalEvent = TurnSnapshot | SessionResumed | SessionRestarted | EventsDropped | EventsLost;
type LocalEventOf<T extends string> = Extract<LocalEvent, { type: T }>;

/** State of a session's connection. */
export type ConnectionState =
  /** Until the first connection is open. */
  | { name: "connecting" }
  /** Everything that was missed has been delivered. */
  | { name: "open" }
  /** The connection broke; the next attempt is at `retryAt`, in milliseconds on the scale of `Date.now()`. */
  | { name: "reconnecting"; attempt: number; retryAt: number; code: string }
  /** A newer connection, such as another tab, drives the session. */
  | { name: "replaced"; code: string | null; error: BargeinError }
  /** The session is over. */
  | { name: "closed"; code: string | null; error: BargeinError };

/** Event of a turn's iterator and of its listeners. */
export type TurnEvent =
  | Sent<Extract<ServerEvent, { turn_id?: string; seq?: number }>>
  | TurnSnapshot;

/** Events of a turn by type; `*` is every event. */
export type TurnEvents = { [T in TurnEvent["type"]]: Extract<TurnEvent, { type: T }> } & { "*": TurnEvent };

/** Events that reach the application; the library handles the others. */
type DeliveredEvent = Exclude<ServerEvent, { type: "session.opened" | "replay.done" | "snapshot" }>;

/** Events of a session by name. */
export type SessionEvents = {
  [T in DeliveredEvent["type"]]: ServerEventOf<T>;
} & {
  [T in LocalEvent["type"]]: LocalEventOf<T>;
} & {
  /** Every delivered event: all but the output of turns that were interrupted here. */
  "*": Sent<DeliveredEvent> | LocalEvent;
  /** The state of the connection changed. */
  state: ConnectionState;
  /** A new turn: one that was asked for here, or one that a resume brought. */
  turn: ClientTurn;
  /** Every event that was received and is no repetition, delivered or not; for an inspector. */
  event: ServerEvent;
  /** Every event as it is sent; for an inspector. It may hold secrets (`session.open`). */
  sent: ClientEvent;
};

/** The answer to a request, or the end of a turn. */
export interface Outcome {
  /** Id of the request; null for the end of a turn whose input is unknown. */
  id: string | null;
  tracked: TrackedTurn | null;
  event: AnyEvent;
}

/** State that continues a session after a reload. It holds a secret: keep it in `sessionStorage`, not elsewhere. */
export interface ResumeState {
  version: 2;
  session_id: string;
  token: string;
  cursor: { epoch: string; seq: number };
  limits: Limits;
  pending: PendingEvent[];
  metadata: JsonObject;
  turns: SavedTurn[];
}

/** The way into a session that began elsewhere. It holds a secret. */
export interface Resume {
  session_id: string;
  token: string;
  /** Where to go on; the number 0 stands before the first event. */
  cursor: { epoch: string; seq: number };
}
/** A conversation in the list of its user. */
export interface Conversation {
  session_id: string;
  /** Its name, or the start of its first input. */
  title: string;
  named: boolean;
  turns: number;
  /** In milliseconds since 1970. */
  created_at_ms: number;
  /** In milliseconds since 1970. */
  used_at_ms: number;
}
/** The way into a conversation, and the user's inputs in it. */
export interface OpenedConversation {
  resume: Resume;
  inputs: { input_id: string; text: string; files: string[] }[];
}
export interface ConversationOptions {
  /** The user's credential. */
  token?: string;
}
export interface SavedTurn {
  input: string | null;
  fold: TurnState;
  /** Ids of the unanswered requests that withhold its output. */
  withheld_by: string[];
  delivery: Delivery;
  reporter: PlaybackReporter;
}

/** One connection to a server. */
export interface Channel {
  /** Time of the last frame, on the environment's clock. */
  readonly lastReceivedAt: number;
  /** Number of bytes that were sent but have not left yet. */
  readonly buffered: number;
  send(event: ClientEvent): void;
  /** Closes the channel immediately; no callback is called afterwards. */
  abort(): void;
}

/** Callbacks of a channel. `closed` is called exactly once, even for a channel that never opened. */
export interface ChannelListener {
  opened(): void;
  received(event: AnyEvent): void;
  closed(reason: ChannelClosed): void;
}
export interface ChannelClosed {
  code: import("./codes.js").Code;
  why: string;
  /** Whether another attempt would fail in the same way. */
  final?: boolean;
}
export type ConnectChannel = (listener: ChannelListener) => Channel;

/** Sources of ids, randomness, time and notices of the device; tests bring their own. */
/**
 * Change of the device or the page. A page is `stored` when it may go into the back/forward cache, and `thawed` when it
 * runs again after the browser had stopped it in the background.
 */
export type Notice = "online" | "offline" | "visible" | "stored" | "thawed";

export interface Environment {
  /** Returns an id that is unique in the session. */
  newId: () => string;
  /** Returns a number from 0 to below 1. */
  random: () => number;
  /** Returns a time in milliseconds, on the scale of `Date.now()`. */
  now: () => number;
  setTimer: (act: () => void, ms: number) => unknown;
  clearTimer: (timer: any) => void;
  /** Calls `notify` for each notice; returns a function that stops it. */
  watch: (notify: (notice: Notice) => void) => () => void;
}

export interface SendOptions {
  /** Effect on a running turn; the server's default is `interrupt`. */
  onBusy?: OnBusy;
  /** Application data for the agent. */
  metadata?: JsonObject;
  /**
   * Files such as images, at most eight. An agent that takes no such file refuses the input with
   * `unsupported_attachment`; `session.limits` lists the types that it takes.
   */
  attachments?: AttachedFile[];
}
export interface AttachedFile {
  /** Media type without parameters, such as `image/png`. */
  mediaType: string;
  data: Uint8Array;
  /** Name of the file, for people and models. */
  name?: string;
}
export interface InterruptOptions {
  /** Appears as `reason` of the turn's end; `client` when absent. */
  reason?: string;
  /** Output that the user has received; see `ClientTurn.interrupt` for the default. */
  played?: PlaybackReport;
  /** Whether to end a section that the agent marked as uninterruptible, too. */
  force?: boolean;
}
/** How much of a turn the user has received, counted from its start. Every field is optional. */
export interface PlaybackReport {
  /** Number of the last event that was wholly rendered or played. */
  seq?: number;
  /** Milliseconds of audio that were played. */
  audioMs?: number;
  /** Characters of the turn's own text that were shown or read aloud: code points, see `countCharacters`. */
  chars?: number;
}
export interface ToolOutputOptions {
  /** Reason of a failure, in place of an output. */
  error?: string;
}
export interface ToolDecisionOptions {
  /** Whether the call may run. */
  allow: boolean;
}

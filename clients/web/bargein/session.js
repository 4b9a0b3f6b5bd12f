/** @import { AnyEvent, ConnectChannel, ConnectionState, Environment, Interrupt, InterruptOptions } from "./types.js" */
/** @import { JsonObject, Outcome, ResumeState, SendOptions, ServerEventOf, SessionEvents } from "./types.js" */
/** @import { ToolDecisionOptions, ToolOutputOptions } from "./types.js" */
/** @import { ClientCore } from "./core.js" */
/** @import { Inbox } from "./inbox.js" */
/** @import { TrackedTurn } from "./tracked_turn.js" */

import { Emitter } from "./emitter.js";
import { BargeinError, InterruptRefused, rejected, RewindRefused, SessionClosed, SessionReplaced } from "./errors.js";
import { SharedResult } from "./event_reader.js";
import { isRendered } from "./kinds.js";
import { Microphone } from "./microphone.js";
import { onWire, wellFormed } from "./outgoing.js";
import { Reconnector } from "./reconnector.js";
import { save } from "./saved.js";
import { ClientTurn, played } from "./turn.js";

const CLOSE_TIMEOUT_MS = 2000;

/** A conversation with an agent; made by `connect`. */
export class ClientSession {
  #core;
  #environment;
  #reconnector;
  #emitter = /** @type {Emitter<SessionEvents>} */ (new Emitter());
  /** Events that the session's listeners have not got yet. @type {Inbox} */
  #inbox;
  /** The handles of turns that have not ended. @type {Map<TrackedTurn, ClientTurn>} */
  #turns = new Map();
  /** @type {Map<string, SharedResult<ServerEventOf<"interrupt.result">>>} */
  #interrupts = new Map();
  /** @type {Map<string, SharedResult<ServerEventOf<"session.rewound">>>} */
  #rewinds = new Map();
  /** @type {SharedResult<void>} */
  #opened = new SharedResult();
  /** @type {SharedResult<void>} */
  #over = new SharedResult();
  /** @type {BargeinError | null} */
  #error = null;
  #isPumping = false;
  /** @type {unknown} */
  #closeTimer = null;
  /** @type {ConnectionState} */
  #state = { name: "connecting" };

  /**
   * @param {string} url
   * @param {ConnectChannel} connectChannel
   * @param {ClientCore} core
   * @param {Environment} environment
   * @param {{reconnect: boolean, giveUpAfterMs: number}} options
   */
  constructor(url, connectChannel, core, environment, options) {
    this.#core = core;
    this.#environment = environment;
    this.#inbox = core.turns.subscribe();
    this.#reconnector = new Reconnector(url, connectChannel, core, environment, {
      received: (event) => this.#received(event),
      sent: (event) => this.#emitter.emit("sent", event),
      changed: (state) => this.#change(state),
      over: (error) => this.#finish(error),
    }, options);
    this.#pump();
  }

  /** Public id of the session; changes when the server loses the session. */
  get id() {
    return this.#core.sessionId;
  }

  /** State of the connection; a `state` event follows each change. */
  get state() {
    return this.#state;
  }

  /** Limits of the server, with the types of files that the agent takes; null before the first answer. */
  get limits() {
    return this.#core.limits;
  }

  /** The turns that have not ended, in the order of their inputs, including those that a resume brought. */
  get turns() {
    return this.#core.turns.open.map((tracked) => this.#turnOf(tracked));
  }

  /** The turn that runs or will run next; null when there is none. */
  get current() {
    return this.turns[0] ?? null;
  }

  /** Audio that the server grants on the current connection; null without any. */
  get audio() {
    return this.#core.audio.granted;
  }

  /** Input audio of the session. */
  get microphone() {
    return new Microphone(this);
  }

  /**
   * Waits until the session is over; resolves if one of the two sides closed it on purpose. Rejects with
   * `SessionReplaced`, `AccessDenied` or `ConnectionLost`; a rejection without a handler is not reported.
   */
  closed() {
    return this.#over.promise;
  }

  /**
   * Calls `listener` with every event of this name; output of turns that were interrupted here is left out.
   *
   * @template {keyof SessionEvents} T
   * @param {T} type
   * @param {(event: SessionEvents[T]) => void} listener
   * @returns {() => void} A function that removes the listener.
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /**
   * Asks for a turn and returns it immediately, without waiting for the server. The turn may be iterated and
   * interrupted at once. `await turn.accepted()` waits until the server has accepted or queued the input. While the
   * connection is down, the input waits for the next one.
   *
   * Throws `TooManyPending`, `TooLarge`, or `SessionClosed`; then nothing was sent.
   *
   * @param {string} text The user's words, at most 65,536 characters.
   * @param {SendOptions} [options]
   */
  send(text, { onBusy, metadata, attachments = [] } = {}) {
    this.#refuseClosed();
    /** @type {import("./types.js").Input} */
    const event = { type: "input.text", id: this.#environment.newId(), text: wellFormed(text) };
    if (onBusy !== undefined) event.on_busy = onBusy;
    if (metadata !== undefined) event.metadata = metadata;
    if (attachments.length > 0) event.attachments = attachments.map(onWire);
    const turn = this.#turnOf(this.#core.sendInput(event));
    this.#pump();
    return turn;
  }

  /**
   * Interrupts the current turn, see `ClientTurn.interrupt`; resolves with null when there is none.
   *
   * @param {InterruptOptions} [options]
   */
  interrupt(options) {
    return this.current?.interrupt(options) ?? Promise.resolve(null);
  }

  /**
   * Drops a turn and all later ones from the conversation; those that have not ended are interrupted. An input that is
   * sent without waiting for the answer stands in their place: the same text regenerates an answer, another one edits
   * the message.
   *
   * Throws `TooManyPending` or `SessionClosed`; then nothing was sent.
   *
   * @param {string} turnId
   * @returns {Promise<ServerEventOf<"session.rewound">>} The event with the dropped turns; listeners get it too. Rejects
   *   with `RewindRefused`: the turn is unknown or was dropped before, or an uninterruptible section protects one. A
   *   rejection without a handler is not reported.
   */
  rewind(turnId) {
    this.#refuseClosed();
    const id = this.#environment.newId();
    this.#core.rewind({ type: "session.rewind", id, turn_id: turnId });
    /** @type {SharedResult<ServerEventOf<"session.rewound">>} */
    const answer = new SharedResult();
    this.#rewinds.set(id, answer);
    this.#pump();
    return answer.promise;
  }

  /**
   * Sends the result of a tool that runs in the client. Throws like `send`.
   *
   * @param {string} callId The call, from a `tool.running` event with `runs_in: "client"`.
   * @param {unknown} [output] The result; any JSON value.
   * @param {ToolOutputOptions} [options]
   */
  sendToolOutput(callId, output = null, { error } = {}) {
    const outcome = error === undefined ? { output } : { error };
    this._act((core) => core.answerTool({ type: "tool.output", call_id: callId, ...outcome }));
  }

  /**
   * Allows or denies a tool call that waits for consent (`tool.confirm`). Throws like `send`.
   *
   * @param {string} callId
   * @param {ToolDecisionOptions} decision
   */
  sendToolDecision(callId, { allow }) {
    this._act((core) => core.answerTool({ type: "tool.decision", call_id: callId, allow }));
  }

  /**
   * Merges parameters that the agent can read into the session; a null removes its key. If the server loses the
   * session, the fresh one gets the parameters too. Throws like `send`.
   *
   * @param {JsonObject} metadata
   */
  update(metadata) {
    this._act((core) => core.update(metadata));
  }

  /**
   * Returns the state with which `connect(url, {resume})` continues this session on another page, such as this one
   * after a reload; null when the session cannot be continued. The state is plain data and holds a secret: keep it
   * in `sessionStorage`, and save it again on `pagehide`.
   *
   * @returns {ResumeState | null}
   */
  resumeState() {
    return this.#error !== null || this.#reconnector.closing ? null : save(this.#core);
  }

  /** Connects immediately if the session waits for its next attempt. */
  reconnect() {
    this.#reconnector.hurry();
  }

  /**
   * Closes the connection and leaves the session on the server, where `connect(url, {resume})` continues it: take
   * `resumeState()` before. A running turn goes on for as long as the server waits for an absent client.
   */
  leave() {
    if (this.#error === null && !this.#reconnector.closing) this.#reconnector.stop(new SessionClosed("the session was left"));
  }

  /**
   * Ends the session for good: its turn is interrupted, and the session cannot be resumed. While the connection is
   * down, the server cannot be notified; it ends a running turn after a while.
   */
  async close() {
    if (this.#error === null && !this.#reconnector.closing) {
      this.#reconnector.closing = true;
      this.#core.closeSession();
      this.#pump();
      const stop = () => this.#reconnector.stop(new SessionClosed());
      if (this.#core.phase === "offline") stop();
      else this.#closeTimer = this.#environment.setTimer(stop, CLOSE_TIMEOUT_MS);
    }
    await this.#over.promise.catch(() => {});
  }

  // --- for the library -------------------------------------------------------------------------------

  /** Connects; resolves when the session is open, and rejects with a `ConnectError`. @internal */
  _open() {
    this.#reconnector.start();
    return this.#opened.promise;
  }

  /** Input audio of the core. @internal */
  get _audio() {
    return this.#core.audio;
  }

  /** @internal @param {Uint8Array} sound */
  _sendSound(sound) {
    this.#refuseClosed();
    const taken = this.#core.audio.send(sound);
    this.#pump();
    return taken;
  }

  /** @internal */
  _commit() {
    this.#refuseClosed();
    const turn = this.#turnOf(this.#core.sendInput({ type: "input.commit", id: this.#environment.newId() }));
    this.#pump();
    return turn;
  }

  /** Whether a listener gets output to render. @internal */
  get _isListened() {
    return this.#emitter.hasAny(isRendered);
  }

  /** Calls the core and sends the resulting events. @internal @param {(core: ClientCore) => void} call */
  _act(call) {
    this.#refuseClosed();
    call(this.#core);
    this.#pump();
  }

  /**
   * @internal
   * @param {TrackedTurn} tracked
   * @param {InterruptOptions} options
   */
  _interrupt(tracked, options) {
    this.#refuseClosed();
    const id = this.#environment.newId();
    /** @type {Interrupt} */
    const event = { type: "interrupt", id };
    if (options.played) event.played = played(options.played);
    if (options.reason) event.reason = options.reason;
    if (options.force) event.force = true;
    this.#core.interrupt(event, tracked);
    /** @type {SharedResult<ServerEventOf<"interrupt.result">>} */
    const answer = new SharedResult();
    this.#interrupts.set(id, answer);
    this.#pump();
    return answer.promise;
  }

  // --- events ----------------------------------------------------------------------------------------

  /** @param {AnyEvent} event */
  #received(event) {
    this.#emitter.emit("event", /** @type {any} */ (event));
    if (this.#core.phase === "live" && this.#state.name !== "open") {
      this.#change({ name: "open" });
      this.#opened.resolve(undefined);
    }
    this.#pump();
  }

  /** Sends outgoing events, calls listeners, and settles results. */
  #pump() {
    this.#reconnector?.flush();
    if (this.#isPumping) return; // called by a listener; the outer call continues
    this.#isPumping = true;
    try {
      for (const tracked of this.#core.turns.unseen()) this.#turnOf(tracked);
      for (const turn of this.#turns.values()) turn._drain();
      let event;
      while ((event = this.#inbox.take()) !== undefined) {
        this.#emitter.emit(/** @type {any} */ (event.type), event);
        this.#emitter.emit("*", /** @type {any} */ (event));
      }
      for (const outcome of this.#core.outcomes()) this.#settle(outcome);
    } finally {
      this.#isPumping = false;
    }
  }

  /** @param {TrackedTurn} tracked */
  #turnOf(tracked) {
    const known = this.#turns.get(tracked);
    if (known !== undefined) return known;
    const turn = new ClientTurn(this, tracked);
    if (!tracked.over) this.#turns.set(tracked, turn);
    this.#emitter.emit("turn", turn);
    if (tracked.over) turn._drain();
    return turn;
  }

  /** @param {ConnectionState} state */
  #change(state) {
    this.#state = state;
    this.#emitter.emit("state", state);
  }

  /** @param {Outcome} outcome */
  #settle({ id, tracked, event }) {
    const interrupt = id === null ? undefined : this.#interrupts.get(id);
    if (interrupt !== undefined && (event.type === "interrupt.result" || event.type === "error")) {
      this.#interrupts.delete(/** @type {string} */ (id));
      if (event.type === "interrupt.result") interrupt.resolve(/** @type {any} */ (event));
      else interrupt.reject(new InterruptRefused(event.code, event.message, event.retryable ?? false));
      return;
    }
    const rewind = id === null ? undefined : this.#rewinds.get(id);
    if (rewind !== undefined && (event.type === "session.rewound" || event.type === "error")) {
      this.#rewinds.delete(/** @type {string} */ (id));
      if (event.type === "session.rewound") return rewind.resolve(/** @type {any} */ (event));
      return rewind.reject(new RewindRefused(event.code, event.message, event.retryable ?? false));
    }
    const turn = tracked === null ? undefined : this.#turns.get(tracked);
    if (tracked === null || turn === undefined) return;
    if (event.type === "input.rejected" || event.type === "error") turn._fail(rejected(event));
    else turn._settle(event);
    if (tracked.over) this.#turns.delete(tracked);
  }

  #refuseClosed() {
    if (this.#error !== null) throw this.#error;
    if (this.#reconnector.closing) throw new SessionClosed("the session is being closed");
  }

  /** Ends everything that waits, because the session is over. @param {BargeinError} error */
  #finish(error) {
    this.#error = error;
    if (this.#closeTimer !== null) this.#environment.clearTimer(this.#closeTimer);
    this.#core.detach();
    for (const turn of this.#turns.values()) turn._fail(error);
    this.#turns.clear();
    for (const answer of [...this.#interrupts.values(), ...this.#rewinds.values()]) answer.reject(error);
    this.#interrupts.clear();
    this.#rewinds.clear();
    if (!this.#opened.isSettled) this.#opened.reject(error);
    const code = error instanceof SessionClosed ? (error.code?.name ?? null) : null;
    this.#change({ name: error instanceof SessionReplaced ? "replaced" : "closed", code, error });
    if (error.constructor === SessionClosed) this.#over.resolve(undefined);
    else this.#over.reject(error);
  }
}

/** @import { AnyEvent, ConnectionState, Dial, Environment, Interrupt, InterruptOptions, JsonObject, Outcome } from "./types.js" */
/** @import { ResumeState, SendOptions, ServerEventOf, SessionEvents } from "./types.js" */
/** @import { ClientCore } from "./core.js" */
/** @import { Inbox } from "./inbox.js" */
/** @import { TrackedTurn } from "./tracked.js" */

import { codeNamed } from "./codes.js";
import { Emitter } from "./emitter.js";
import { BargeinError, InputRejected, InterruptRefused, SessionClosed, SessionReplaced } from "./errors.js";
import { Answer } from "./feed.js";
import { isRendered } from "./kinds.js";
import { Lifeline } from "./lifeline.js";
import { save } from "./saved.js";
import { played, Turn } from "./turn.js";

const CLOSE_TIMEOUT_MS = 2000;

/** A conversation with an agent. Made by `connect`. */
export class Session {
  #core;
  #environment;
  #lifeline;
  #emitter = /** @type {Emitter<SessionEvents>} */ (new Emitter());
  /** What the session's listeners have still to get. @type {Inbox} */
  #inbox;
  /** The handles of turns, until their end was told. @type {Map<TrackedTurn, Turn>} */
  #turns = new Map();
  /** @type {Map<string, Answer<ServerEventOf<"interrupt.result">>>} */
  #interrupts = new Map();
  /** @type {Answer<void>} */
  #opened = new Answer();
  /** @type {Answer<SessionClosed>} */
  #over = new Answer();
  /** @type {BargeinError | null} */
  #error = null;
  #isPumping = false;
  /** @type {unknown} */
  #closeTimer = null;
  /** @type {ConnectionState} */
  #state = { state: "connecting" };

  /**
   * @param {string} url
   * @param {Dial} dial
   * @param {ClientCore} core
   * @param {Environment} environment
   * @param {{reconnect: boolean, giveUpAfterMs: number}} options
   */
  constructor(url, dial, core, environment, options) {
    this.#core = core;
    this.#environment = environment;
    this.#inbox = core.turns.subscribe();
    this.#lifeline = new Lifeline(url, dial, core, environment, {
      received: (event) => this.#received(event),
      sent: (event) => this.#emitter.emit("sent", event),
      changed: (state) => this.#change(state),
      over: (error) => this.#finish(error),
    }, options);
    this.#pump();
  }

  /** The session's public name; another one after the server lost the session. */
  get id() {
    return this.#core.sessionId;
  }

  /** How it is connected; `state` events tell of changes. */
  get state() {
    return this.#state;
  }

  /** The turns that have not ended, in the order in which they were asked for, also those that a resume brought. */
  get turns() {
    return this.#core.turns.open.map((tracked) => this.#turnOf(tracked));
  }

  /** The turn that runs or will run next; null when there is none. */
  get current() {
    return this.turns[0] ?? null;
  }

  /** Resolves when the session is over, with the reason; see `SessionClosed` and what extends it. */
  get closed() {
    return this.#over.promise;
  }

  /**
   * Calls `listener` with every event of this name until the function that is returned is called. Output of
   * turns that were interrupted here is left out.
   *
   * @template {keyof SessionEvents} T
   * @param {T} type
   * @param {(event: SessionEvents[T]) => void} listener
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /**
   * Asks for a turn and returns it at once; it may be shown and interrupted right away. `await turn.accepted`
   * says whether the server took it. While the line is down it waits for the next one.
   *
   * Throws `TooManyPending`, `TooLarge`, or `SessionClosed`; then nothing was sent.
   *
   * @param {string} text What the user said, at most 65,536 characters.
   * @param {SendOptions} [options]
   */
  send(text, { onBusy, metadata } = {}) {
    this.#refuseClosed();
    /** @type {import("./types.js").Input} */
    const event = { type: "input.text", id: this.#environment.newId(), text: wellFormed(text) };
    if (onBusy !== undefined) event.on_busy = onBusy;
    if (metadata !== undefined) event.metadata = metadata;
    const turn = this.#turnOf(this.#core.sendInput(event));
    this.#pump();
    return turn;
  }

  /**
   * Ends the current turn, see `Turn.interrupt`; null when there is none.
   *
   * @param {InterruptOptions} [options]
   */
  interrupt(options) {
    return this.current?.interrupt(options) ?? Promise.resolve(null);
  }

  /**
   * Gives the result of a tool that runs in the client, or says what went wrong with it.
   *
   * @param {string} callId
   * @param {unknown} output Any JSON value.
   * @param {{error?: string}} [options]
   */
  toolOutput(callId, output, { error } = {}) {
    const outcome = error === undefined ? { output } : { error };
    this.act((core) => core.answerTool({ type: "tool.output", call_id: callId, ...outcome }));
  }

  /**
   * Answers a `tool.confirm`.
   *
   * @param {string} callId
   * @param {boolean} allow
   */
  toolDecision(callId, allow) {
    this.act((core) => core.answerTool({ type: "tool.decision", call_id: callId, allow }));
  }

  /**
   * Merges parameters that the agent can read into the session; a null removes its key. They are kept and
   * given to a fresh session as well when the server loses this one.
   *
   * @param {JsonObject} metadata
   */
  update(metadata) {
    this.act((core) => core.update(metadata));
  }

  /**
   * What `connect(url, {resume})` needs to go on with this session on another page, such as this one
   * after a reload; null when there is nothing to go on with. It is plain data and holds a secret: keep it in
   * `sessionStorage`, and take it anew on `pagehide`.
   *
   * @returns {ResumeState | null}
   */
  resumeState() {
    return this.#error !== null || this.#lifeline.closing ? null : save(this.#core);
  }

  /**
   * Ends the session for good: its turn is interrupted, and nothing can be resumed. Without a line there is
   * nobody to tell; the server then ends a turn that runs after a while.
   */
  async close() {
    if (this.#error === null && !this.#lifeline.closing) {
      this.#lifeline.closing = true;
      this.#core.closeSession();
      this.#pump();
      const stop = () => this.#lifeline.stop(new SessionClosed());
      if (this.#core.phase === "offline") stop();
      else this.#closeTimer = this.#environment.setTimer(stop, CLOSE_TIMEOUT_MS);
    }
    await this.#over.promise;
  }

  // --- for the library -------------------------------------------------------------------------------

  /** Dials; resolves when the session is open, and rejects with a `ConnectError`. */
  open() {
    this.#lifeline.start();
    return this.#opened.promise;
  }

  /** Whether its listeners get output to render. */
  get isListened() {
    return this.#emitter.hasAny(isRendered);
  }

  /** Asks something of the core and sends what comes of it. @param {(core: ClientCore) => void} what */
  act(what) {
    this.#refuseClosed();
    what(this.#core);
    this.#pump();
  }

  /**
   * @param {TrackedTurn} tracked
   * @param {InterruptOptions} options
   */
  interruptTracked(tracked, options) {
    this.#refuseClosed();
    const id = this.#environment.newId();
    /** @type {Interrupt} */
    const event = { type: "interrupt", id };
    if (options.played) event.played = played(options.played);
    if (options.reason) event.reason = options.reason;
    if (options.force) event.force = true;
    this.#core.interrupt(event, tracked);
    /** @type {Answer<ServerEventOf<"interrupt.result">>} */
    const answer = new Answer();
    this.#interrupts.set(id, answer);
    this.#pump();
    return answer.promise;
  }

  // --- what comes ------------------------------------------------------------------------------------

  /** @param {AnyEvent} event */
  #received(event) {
    this.#emitter.emit("event", /** @type {any} */ (event));
    if (this.#core.phase === "live" && this.#state.state !== "open") {
      this.#change({ state: "open" });
      this.#opened.resolve(undefined);
    }
    this.#pump();
  }

  /** Sends what the core wants to send, tells listeners, and settles what was awaited. */
  #pump() {
    this.#lifeline?.flush();
    if (this.#isPumping) return; // a listener asked for something; the outer call goes on with it
    this.#isPumping = true;
    try {
      for (const tracked of this.#core.turns.open) this.#turnOf(tracked);
      for (const turn of this.#turns.values()) turn.drain();
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
    let turn = this.#turns.get(tracked);
    if (turn === undefined) {
      turn = new Turn(this, tracked);
      this.#turns.set(tracked, turn);
      this.#emitter.emit("turn", turn);
    }
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
    if (interrupt !== undefined) {
      this.#interrupts.delete(/** @type {string} */ (id));
      if (event.type === "interrupt.result") interrupt.resolve(/** @type {any} */ (event));
      else interrupt.reject(new InterruptRefused(event.code, event.message, event.retryable ?? false));
      return;
    }
    const turn = tracked === null ? undefined : this.#turns.get(tracked);
    if (tracked === null || turn === undefined) return;
    if (event.type === "input.rejected" || event.type === "error") turn.fail(rejected(event));
    else turn.settle(event);
    if (tracked.over) this.#turns.delete(tracked);
  }

  #refuseClosed() {
    if (this.#error !== null) throw this.#error;
    if (this.#lifeline.closing) throw new SessionClosed("the session is being closed");
  }

  /** The session is over: everyone who waits is told. @param {BargeinError} error */
  #finish(error) {
    this.#error = error;
    if (this.#closeTimer !== null) this.#environment.clearTimer(this.#closeTimer);
    this.#core.detach();
    for (const turn of this.#turns.values()) turn.fail(error);
    this.#turns.clear();
    for (const answer of this.#interrupts.values()) answer.reject(error);
    this.#interrupts.clear();
    if (!this.#opened.isSettled) this.#opened.reject(error);
    const why = error instanceof SessionClosed ? error : new SessionClosed(error.message);
    if (error instanceof SessionReplaced) this.#change({ state: "replaced" });
    else this.#change({ state: "closed", reason: why.code?.name ?? "closed", error: why });
    this.#over.resolve(why);
  }
}

/** @param {AnyEvent} event */
function rejected(event) {
  const code = codeNamed(event.code);
  const retryable = event.retryable ?? code?.action === "retry";
  const why = event.message ?? code?.reason ?? "the server refused the input";
  return new InputRejected(event.code, why, retryable, event.retry_after_ms ?? null);
}

/** Text without lone surrogates, which no server reads. @param {string} text */
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

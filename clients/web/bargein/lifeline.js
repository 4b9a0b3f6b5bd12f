/**
 * Keeps a session connected: dials, reads, writes, waits, and dials again.
 *
 * Every event is handed to the core in the step in which it comes, and never waits for a consumer.
 *
 * @module
 */

/** @import { AnyEvent, ClientEvent, ConnectionState, Dial, Environment, Line, LineEnd } from "./types.js" */
/** @import { BargeinError } from "./errors.js" */
/** @import { ClientCore } from "./core.js" */

import { backoff } from "./backoff.js";
import { row } from "./codes.js";
import { AccessDenied, ConnectError, ConnectionLost, ServerViolation, SessionClosed, SessionReplaced } from "./errors.js";

const OPEN_TIMEOUT_MS = 10_000;
/** A connection that lived for less does not count as a success of reconnecting. */
const STABLE_MS = 5000;
/** How soon a line must answer that may have died while the device slept. */
const PROBE_MS = 3000;
/** More than this in the socket's own buffer, in bytes, and the rest waits in the core, which is bounded. */
const MAX_BUFFERED = 1024 * 1024;
const BUFFER_POLL_MS = 50;

/**
 * @typedef {object} Owner
 * @property {(event: AnyEvent) => void} received Called in the step of each event, after the core has taken it in.
 * @property {(event: ClientEvent) => void} sent
 * @property {(state: ConnectionState) => void} changed
 * @property {(error: BargeinError) => void} over There is no further line.
 */

/** The connections of one session, one after the other. */
export class Lifeline {
  /** @type {Line | null} */
  #line = null;
  /** @type {Record<"retry" | "silence" | "buffer", unknown>} */
  #timers = { retry: null, silence: null, buffer: null };
  #attempt = 0;
  #begunAt = 0;
  #lastLive;
  #isOver = false;
  #unwatch;

  /**
   * @param {string} url For messages.
   * @param {Dial} dial Makes a connection.
   * @param {ClientCore} core
   * @param {Environment} environment
   * @param {Owner} owner
   * @param {{reconnect: boolean, giveUpAfterMs: number}} options
   */
  constructor(url, dial, core, environment, owner, options) {
    this.url = url;
    this.dial = dial;
    this.core = core;
    this.environment = environment;
    this.owner = owner;
    this.options = options;
    /** This side wants the session to end; the next end of a line is the last. */
    this.closing = false;
    this.#lastLive = environment.now();
    this.#unwatch = environment.watch((news) => this.#hear(news));
  }

  /** Dials. */
  start() {
    this.#clear("retry");
    this.#begunAt = this.environment.now();
    this.#line = this.dial({
      opened: () => this.#opened(),
      received: (event) => this.#received(event),
      ended: (end) => this.#ended(end),
    });
    this.#watchSilence();
  }

  /** Sends what the core wants to send; called after each call of the core. */
  flush() {
    const line = this.#line;
    if (line === null || this.core.phase === "offline") return;
    while (line.buffered <= MAX_BUFFERED) {
      const event = this.core.nextOutgoing();
      if (event === undefined) return;
      line.send(event);
      this.owner.sent(event);
    }
    this.#clear("buffer");
    this.#timers.buffer = this.environment.setTimer(() => this.flush(), BUFFER_POLL_MS);
  }

  /** Stops for good. @param {BargeinError} error */
  stop(error) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#hangUp();
    this.#clear("retry");
    this.#unwatch();
    this.owner.over(error);
  }

  // --- the line --------------------------------------------------------------------------------------

  #opened() {
    this.core.attach();
    this.flush();
  }

  /** @param {AnyEvent} event */
  #received(event) {
    let isNew;
    try {
      isNew = this.core.receive(event);
    } catch (error) {
      if (!(error instanceof ServerViolation)) throw error;
      this.#ended({ code: row("abnormal"), why: error.message });
      return;
    }
    if (event.type === "session.opened") this.#watchSilence();
    if (isNew) this.owner.received(event);
    this.flush();
  }

  /** @param {LineEnd} end */
  #ended(end) {
    if (this.#isOver) return;
    const { now } = this.environment;
    const wasLive = this.core.phase === "live";
    this.#hangUp();
    if (wasLive) {
      this.#lastLive = now();
      if (this.#lastLive - this.#begunAt >= STABLE_MS) this.#attempt = 0;
    }
    const error = this.#verdict(end, now() - this.#lastLive);
    if (error !== null) {
      this.stop(error);
      return;
    }
    this.#attempt += 1;
    const delay = this.core.reconnectAfterMs ?? backoff(this.#attempt, this.environment.random());
    this.core.reconnectAfterMs = null; // the server spreads its clients itself, once
    this.#timers.retry = this.environment.setTimer(() => this.start(), delay);
    this.owner.changed({ state: "reconnecting", attempt: this.#attempt, retryAt: now() + delay, code: end.code.name });
  }

  #hangUp() {
    this.#line?.abort();
    this.#line = null;
    this.core.detach();
    this.#clear("silence");
    this.#clear("buffer");
  }

  /**
   * What the session ends with; null to connect again. A code that says `retry` asks for a fresh session. The
   * client asks for the old one all the same: the server refuses it with a reason, and nothing is lost when
   * it can still be had.
   *
   * @param {LineEnd} end
   * @param {number} outageMs
   * @returns {BargeinError | null}
   */
  #verdict({ code, why, final }, outageMs) {
    if (this.closing) return new SessionClosed(undefined, code);
    if (this.core.sessionId === null) return new ConnectError(this.url, why, code.name === "abnormal" ? null : code);
    if (code.name === "closed") return new SessionClosed("the server closed the session", code);
    if (code.name === "replaced") return new SessionReplaced(code.reason, code);
    if (code.name === "unauthorized" || code.name === "forbidden") return new AccessDenied(code.reason, code);
    if (final || code.action === "stop" || !this.options.reconnect) return new ConnectionLost(why, code);
    if (outageMs < this.options.giveUpAfterMs) return null;
    return new ConnectionLost(`no connection for ${Math.round(outageMs / 1000)} s: ${why}`, code);
  }

  // --- is it alive? ----------------------------------------------------------------------------------

  /** Expects `session.opened` in time, and after it a frame in twice the heartbeat. */
  #watchSilence() {
    const { core, environment } = this;
    const isOpened = core.phase === "live" || core.phase === "replaying";
    if (isOpened && !core.heartbeatMs) {
      this.#clear("silence");
      return;
    }
    const heardAt = this.#line?.heardAt ?? environment.now();
    const due = isOpened ? heardAt + 2 * core.heartbeatMs : this.#begunAt + OPEN_TIMEOUT_MS;
    this.#expect(due, isOpened ? heardAt : null);
  }

  /**
   * Cuts the line at a time unless it was heard of since `heardAt`.
   *
   * @param {number} due
   * @param {number | null} heardAt
   */
  #expect(due, heardAt) {
    const { environment } = this;
    this.#clear("silence");
    const wait = Math.max(0, due - environment.now());
    this.#timers.silence = environment.setTimer(() => {
      if (heardAt !== null && this.#line !== null && this.#line.heardAt > heardAt) this.#watchSilence();
      // A timer that is late slept with the device, and so did what has come since: ask before cutting.
      else if (heardAt !== null && environment.now() > due + PROBE_MS) this.#probe();
      else this.#ended({ code: row("abnormal"), why: "the server is silent" });
    }, wait);
  }

  /** Asks for a sign of life, and wants it soon. */
  #probe() {
    if (this.#line === null) return;
    this.core.ping(this.environment.newId());
    this.flush();
    this.#expect(this.environment.now() + PROBE_MS, this.#line.heardAt);
  }

  /** @param {"online" | "offline" | "visible"} news */
  #hear(news) {
    if (this.#isOver) return;
    if (this.#timers.retry !== null && news !== "offline") this.start();
    else if (this.core.phase === "live" || this.core.phase === "replaying") this.#probe();
  }

  /** @param {"retry" | "silence" | "buffer"} name */
  #clear(name) {
    if (this.#timers[name] !== null) this.environment.clearTimer(this.#timers[name]);
    this.#timers[name] = null;
  }
}

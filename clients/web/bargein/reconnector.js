/**
 * Connection loop of a session: connect, read, write, wait, and connect again.
 *
 * Every event is handed to the core as soon as it arrives, and never waits for a consumer.
 *
 * @module
 */

/** @import { AnyEvent, Channel, ChannelClosed, ClientEvent, ConnectChannel, ConnectionState, Environment, Notice } from "./types.js" */
/** @import { BargeinError } from "./errors.js" */
/** @import { ClientCore } from "./core.js" */

import { backoff } from "./backoff.js";
import { row } from "./codes.js";
import { AccessDenied, ConnectError, ConnectionLost, ServerViolation, SessionClosed, SessionReplaced } from "./errors.js";

const OPEN_TIMEOUT_MS = 10_000;
/** A connection that lived for less does not reset the backoff. */
const STABLE_MS = 5000;
/** Time in which a channel must answer that may have died while the device slept. */
const PROBE_MS = 3000;
/** Longest delay that a server may ask for. */
const MAX_ASKED_MS = 60_000;
/** Bound of the socket's own buffer in bytes; further events wait in the core, which is bounded too. */
const MAX_BUFFERED = 1024 * 1024;
const BUFFER_POLL_MS = 50;

/**
 * @typedef {object} Owner
 * @property {(event: AnyEvent) => void} received Called after the core has taken in an event.
 * @property {(event: ClientEvent) => void} sent Called with each event that is sent.
 * @property {(state: ConnectionState) => void} changed Called when the connection breaks.
 * @property {(error: BargeinError) => void} over Called when there is no further channel.
 */

/** Serves the channels of one session, one after the other. */
export class Reconnector {
  /** @type {Channel | null} */
  #channel = null;
  /** @type {Record<"retry" | "silence" | "buffer", unknown>} */
  #timers = { retry: null, silence: null, buffer: null };
  #attempt = 0;
  #begunAt = 0;
  #waitsSince = 0;
  #delayMs = 0;
  /** Time without a connection in which the device was awake: attempts and delays, each up to its bound. */
  #outageMs = 0;
  #isOver = false;
  #unwatch;

  /**
   * @param {string} url The server's URL, for error messages.
   * @param {ConnectChannel} connectChannel Opens a channel.
   * @param {ClientCore} core
   * @param {Environment} environment
   * @param {Owner} owner
   * @param {{reconnect: boolean, giveUpAfterMs: number}} options
   */
  constructor(url, connectChannel, core, environment, owner, options) {
    this.url = url;
    this.connectChannel = connectChannel;
    this.core = core;
    this.environment = environment;
    this.owner = owner;
    this.options = options;
    /** Whether the application is closing the session; the current channel is then the last. */
    this.closing = false;
    this.#unwatch = environment.watch((notice) => this.#noticed(notice));
  }

  /** Opens a channel. */
  start() {
    this.#clear("retry");
    this.#begunAt = this.environment.now();
    this.#outageMs += clamp(this.#begunAt - this.#waitsSince, this.#delayMs);
    this.#channel = this.connectChannel({
      opened: () => this.#opened(),
      received: (event) => this.#received(event),
      closed: (reason) => this.#closed(reason),
    });
    this.#watchSilence();
  }

  /** Ends the wait for the next attempt. */
  hurry() {
    if (this.#timers.retry !== null) this.start();
  }

  /** Sends the core's outgoing events; to be called after each call of the core. */
  flush() {
    const channel = this.#channel;
    if (channel === null || this.core.phase === "offline") return;
    while (channel.buffered <= MAX_BUFFERED) {
      const event = this.core.nextOutgoing();
      if (event === undefined) return;
      channel.send(event);
      this.owner.sent(event);
    }
    this.#clear("buffer");
    this.#timers.buffer = this.environment.setTimer(() => this.flush(), BUFFER_POLL_MS);
  }

  /** Stops for good. @param {BargeinError} error */
  stop(error) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#drop();
    this.#clear("retry");
    this.#unwatch();
    this.owner.over(error);
  }

  // --- the channel -----------------------------------------------------------------------------------

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
      this.#closed({ code: row("abnormal"), why: error.message });
      return;
    }
    if (event.type === "session.opened") this.#watchSilence();
    if (isNew) this.owner.received(event);
    this.flush();
  }

  /** @param {ChannelClosed} reason */
  #closed(reason) {
    if (this.#isOver) return;
    this.#leave();
    const error = this.#finalError(reason, this.#outageMs);
    if (error !== null) {
      this.stop(error);
      return;
    }
    this.#retryLater(reason.code.name);
  }

  /** Drops the channel and adds its time to the outage. */
  #leave() {
    const now = this.environment.now();
    const wasLive = this.core.phase === "live";
    this.#drop();
    const lastedMs = now - this.#begunAt;
    if (wasLive && lastedMs >= STABLE_MS) this.#attempt = 0;
    this.#outageMs = wasLive ? 0 : this.#outageMs + clamp(lastedMs, OPEN_TIMEOUT_MS);
    this.#waitsSince = now;
    this.#delayMs = 0;
  }

  /** @param {string} code Name of the code that ended the last channel. */
  #retryLater(code) {
    this.#attempt += 1;
    this.#delayMs = clamp(this.options.giveUpAfterMs - this.#outageMs, this.#nextDelay());
    const retryAt = this.environment.now() + this.#delayMs;
    this.#timers.retry = this.environment.setTimer(() => this.start(), this.#delayMs);
    this.owner.changed({ name: "reconnecting", attempt: this.#attempt, retryAt, code });
  }

  #nextDelay() {
    const own = backoff(this.#attempt, this.environment.random());
    const asked = this.core.reconnectAfterMs; // the server spreads its clients itself
    this.core.reconnectAfterMs = null;
    if (asked === null) return own;
    // A server that sends each connection away again is not asked more often for that.
    return Math.min(this.#attempt > 1 ? Math.max(asked, own) : asked, MAX_ASKED_MS);
  }

  #drop() {
    this.#channel?.abort();
    this.#channel = null;
    this.core.detach();
    this.#clear("silence");
    this.#clear("buffer");
  }

  /**
   * Returns the error that ends the session; null to connect again. A code with the action `retry` asks for a fresh
   * session. The client tries to resume the old one anyway: the server refuses with a reason, and nothing is lost
   * if the session still exists.
   *
   * @param {ChannelClosed} reason
   * @param {number} outageMs
   * @returns {BargeinError | null}
   */
  #finalError({ code, why, final }, outageMs) {
    if (this.closing) return new SessionClosed(undefined, code);
    if (this.core.sessionId === null) return new ConnectError(this.url, why, code.name === "abnormal" ? null : code);
    if (code.name === "closed") return new SessionClosed("the server closed the session", code);
    if (code.name === "replaced") return new SessionReplaced(code.reason, code);
    if (code.name === "unauthorized" || code.name === "forbidden") return new AccessDenied(code.reason, code);
    if (final || code.action === "stop" || !this.options.reconnect) return new ConnectionLost(why, code);
    if (outageMs < this.options.giveUpAfterMs) return null;
    return new ConnectionLost(`no connection for ${Math.round(outageMs / 1000)} s: ${why}`, code);
  }

  // --- liveness --------------------------------------------------------------------------------------

  /** Expects `session.opened` in time, and then a frame within twice the heartbeat. */
  #watchSilence() {
    const { core, environment } = this;
    const isOpened = core.phase === "live" || core.phase === "replaying";
    if (isOpened && !core.heartbeatMs) {
      this.#clear("silence");
      return;
    }
    const lastReceivedAt = this.#channel?.lastReceivedAt ?? environment.now();
    const [since, mostMs] = isOpened ? [lastReceivedAt, 2 * core.heartbeatMs] : [this.#begunAt, OPEN_TIMEOUT_MS];
    const wait = clamp(since + mostMs - environment.now(), mostMs);
    // A frame that is older than the silence it began was dated before the clock was set.
    if (isOpened && wait === 0) this.#probe();
    else this.#expect(wait, isOpened ? lastReceivedAt : null);
  }

  /**
   * Drops the channel after a time unless a frame arrives after the one of `lastReceivedAt`.
   *
   * @param {number} wait
   * @param {number | null} lastReceivedAt
   */
  #expect(wait, lastReceivedAt) {
    const { environment } = this;
    this.#clear("silence");
    const due = environment.now() + wait;
    this.#timers.silence = environment.setTimer(() => {
      const received = this.#channel?.lastReceivedAt ?? 0;
      // Not `>`: the clock may have been set back.
      if (lastReceivedAt !== null && received !== lastReceivedAt) this.#watchSilence();
      // A late timer means that the device slept, and frames may wait unread: ping before dropping the channel.
      else if (lastReceivedAt !== null && environment.now() > due + PROBE_MS) this.#probe();
      else this.#closed({ code: row("abnormal"), why: "the server is silent" });
    }, wait);
  }

  /** Pings the server, and expects a frame soon. */
  #probe() {
    if (this.#channel === null) return;
    this.core.ping(this.environment.newId());
    this.flush();
    this.#expect(PROBE_MS, this.#channel.lastReceivedAt);
  }

  /** @param {Notice} notice */
  #noticed(notice) {
    if (this.#isOver) return;
    if (notice === "stored" || notice === "thawed") this.#renew(notice);
    else if (this.core.phase === "live" || this.core.phase === "replaying") this.#probe();
    else if (notice !== "offline") this.#tryNow();
  }

  /**
   * Closes the channel of a page that is stored, or that was frozen, and connects when the page runs again.
   *
   * A browser keeps no page with an open connection, or cuts the connection there; after this the server knows that
   * nobody reads. Chromium cuts the sockets of a frozen page when it runs again, and its streams stand still. A
   * channel stays open while the page is frozen, because a server keeps a session longer for a client that is there.
   *
   * @param {Notice} notice
   */
  #renew(notice) {
    if (!this.options.reconnect || this.closing) return;
    if (this.#channel !== null) {
      this.#leave();
      this.#retryLater(notice === "stored" ? "going_away" : "abnormal");
    }
    if (notice === "thawed") this.#tryNow();
  }

  /** Connects without a delay, and again if an attempt began before the device could connect. */
  #tryNow() {
    const isTrying = this.#timers.retry === null;
    if (isTrying && Math.abs(this.environment.now() - this.#begunAt) < PROBE_MS) return;
    if (isTrying) this.#leave();
    this.start();
  }

  /** @param {"retry" | "silence" | "buffer"} name */
  #clear(name) {
    if (this.#timers[name] !== null) this.environment.clearTimer(this.#timers[name]);
    this.#timers[name] = null;
  }
}

/** Returns a time within 0 and a bound: the clock may be set, and stands still or runs on while the device sleeps. @param {number} ms @param {number} mostMs */
function clamp(ms, mostMs) {
  return Math.min(Math.max(ms, 0), mostMs);
}

/**
 * Errors of this library.
 *
 *     BargeinError
 *     ├── ConnectError            the first connection could not be made
 *     ├── SessionClosed           the session is over, nothing more can be asked of it
 *     │   ├── SessionReplaced     a newer connection drives the session (close code 4409)
 *     │   ├── AccessDenied        the server does not let this client in (4401, 4403)
 *     │   └── ConnectionLost      the connection broke and was not, or could not be, restored
 *     ├── RequestRefused          the server refused one request, or lost it; the session goes on
 *     │   ├── InputRejected       an input: it gets no turn
 *     │   ├── InterruptRefused    an interrupt
 *     │   └── RewindRefused       a rewind
 *     ├── TooManyPending          too many requests wait for an answer; nothing was sent
 *     ├── TooLarge                the frame exceeds the server's limit; nothing was sent
 *     └── ServerViolation         the server broke the protocol; internal, the session reconnects
 *
 * Programs read the properties; the message is for people.
 *
 * @module
 */

import { codeNamed } from "./codes.js";

/** @import { Code } from "./codes.js" */

/** Base class of all errors of this library. */
export class BargeinError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The first connection could not be made; nothing is retried. */
export class ConnectError extends BargeinError {
  /**
   * @param {string} url The server's URL.
   * @param {string} why Reason, for people.
   * @param {Code | null} code Row of the protocol's table of codes if the server sent one.
   */
  constructor(url, why, code = null) {
    super(`cannot connect to ${url}: ${why}`);
    this.url = url;
    this.why = why;
    this.code = code;
  }
}

/** The session is over. */
export class SessionClosed extends BargeinError {
  /**
   * @param {string} why
   * @param {Code | null} code Row of the protocol's table of codes that ended the session; null if this side closed it.
   */
  constructor(why = "the session was closed", code = null) {
    super(why);
    this.code = code;
  }
}

/** A newer connection drives the session; this one must not reconnect. */
export class SessionReplaced extends SessionClosed {}

/** The server denies access to this client. */
export class AccessDenied extends SessionClosed {}

/** The connection could not be restored. The server may keep the session and its turn for a while. */
export class ConnectionLost extends SessionClosed {}

/** The server refused one request, or lost it. The session goes on. */
export class RequestRefused extends BargeinError {
  /**
   * @param {string} code Name of a row in the table of codes, such as `busy` or `session_lost`.
   * @param {string} why
   * @param {boolean} retryable Whether the same request may succeed later.
   * @param {number | null} retryAfterMs Delay before a retry; null if the server gave none.
   */
  constructor(code, why, retryable, retryAfterMs = null) {
    super(`${code}: ${why}`);
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The server refused an input, which gets no turn. */
export class InputRejected extends RequestRefused {}

/** The server refused an interrupt, which has no outcome. */
export class InterruptRefused extends RequestRefused {}

/** The server refused a rewind, and no turn was dropped. */
export class RewindRefused extends RequestRefused {}

/** Too many requests wait for an answer; this one was not sent. */
export class TooManyPending extends BargeinError {
  /** @param {number} limit The largest number of unanswered requests. */
  constructor(limit) {
    super(`expected at most ${limit} requests without an answer, this is one more`);
    this.limit = limit;
  }
}

/** The text or the frame exceeds the server's limit; nothing was sent. */
export class TooLarge extends BargeinError {
  /**
   * @param {number} size Size of the text or the frame.
   * @param {number} limit The largest size that the server accepts, in the same unit.
   * @param {string} unit
   */
  constructor(size, limit, unit) {
    super(`expected at most ${limit} ${unit}, got ${size}`);
    this.size = size;
    this.limit = limit;
  }
}

/** The server broke the protocol: a gap in the numbers, or an event out of place. */
export class ServerViolation extends BargeinError {}

/** Returns the error for an input that the server refused. @param {import("./types.js").AnyEvent} event */
export function rejected(event) {
  const code = codeNamed(event.code);
  const retryable = event.retryable ?? code?.action === "retry";
  const why = event.message ?? code?.reason ?? "the server refused the input";
  return new InputRejected(event.code, why, retryable, event.retry_after_ms ?? null);
}

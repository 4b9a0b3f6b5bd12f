/**
 * Everything this library throws.
 *
 *     BargeinError
 *     ├── ConnectError            the first connection could not be made
 *     ├── SessionClosed           the session is over, nothing more can be asked of it
 *     │   ├── SessionReplaced     a newer connection drives the session (close code 4409)
 *     │   ├── AccessDenied        the server does not let this client in (4401, 4403)
 *     │   └── ConnectionLost      the line is gone and was not, or could not be, restored
 *     ├── RequestRefused          the server said no to one request, or lost it; the session lives on
 *     │   ├── InputRejected       … to an input: it gets no turn
 *     │   └── InterruptRefused    … to an interrupt
 *     ├── TooManyPending          too many requests wait for an answer; nothing was sent
 *     ├── TooLarge                the server would not read a frame of this size; nothing was sent
 *     └── ServerViolation         the server broke the protocol; inside only, the session reconnects
 *
 * What went wrong is in properties, the message is for people.
 *
 * @module
 */

/** @import { Code } from "./codes.js" */

/** The root of all errors of this library. */
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
   * @param {string} url Where to.
   * @param {string} why
   * @param {Code | null} code The row of the protocol's table when the server gave one.
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
   * @param {Code | null} code The row of the protocol's table that ended it, null when this side did.
   */
  constructor(why = "the session was closed", code = null) {
    super(why);
    this.code = code;
  }
}

/** A newer connection drives the session; this one must not come back. */
export class SessionReplaced extends SessionClosed {}

/** The server does not let this client in, or not any more. */
export class AccessDenied extends SessionClosed {}

/** The line is gone for good. The server may still hold the session and its turn for a while. */
export class ConnectionLost extends SessionClosed {}

/** The server said no to one request, or lost it. The session lives on. */
export class RequestRefused extends BargeinError {
  /**
   * @param {string} code The name of a row in the table of codes, such as `busy` or `session_lost`.
   * @param {string} why
   * @param {boolean} retryable Whether the same request may succeed later.
   * @param {number | null} retryAfterMs When; null when the server did not say.
   */
  constructor(code, why, retryable, retryAfterMs = null) {
    super(`${code}: ${why}`);
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The input gets no turn. */
export class InputRejected extends RequestRefused {}

/** The interrupt got no outcome. */
export class InterruptRefused extends RequestRefused {}

/** Too many requests wait for an answer; this one was not sent. */
export class TooManyPending extends BargeinError {
  /** @param {number} limit How many may wait. */
  constructor(limit) {
    super(`expected at most ${limit} requests without an answer, this is one more`);
    this.limit = limit;
  }
}

/** The server would not read it; nothing was sent. */
export class TooLarge extends BargeinError {
  /**
   * @param {number} size What was given.
   * @param {number} limit What the server takes, in the same unit.
   * @param {string} unit
   */
  constructor(size, limit, unit) {
    super(`expected at most ${limit} ${unit}, got ${size}`);
    this.size = size;
    this.limit = limit;
  }
}

/** What came from the server does not fit: a hole in the numbers, an event out of place. */
export class ServerViolation extends BargeinError {}

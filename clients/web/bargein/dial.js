/** @import { Dial, Environment, Line, LineListener } from "./types.js" */

import { row } from "./codes.js";
import { WebSocketLine } from "./websocket.js";

const SESSION_PATH = "/v1/session";

/**
 * The full address of a session: relative ones belong to the page, `http` becomes `ws`, and an empty path
 * becomes that of the session.
 *
 * @param {string} url
 */
export function sessionUrl(url) {
  const base = typeof location === "undefined" ? undefined : location.href;
  const full = new URL(url, base);
  full.protocol = full.protocol.replace(/^http/, "ws");
  full.hash = "";
  if (full.pathname === "/") full.pathname = SESSION_PATH;
  return full.href;
}

/**
 * How lines are made.
 *
 * @param {string} url
 * @param {{ticket?: () => Promise<string>, WebSocket?: typeof WebSocket}} options
 * @param {Environment} environment
 * @returns {Dial}
 */
export function dialer(url, options, environment) {
  const Socket = options.WebSocket ?? globalThis.WebSocket;
  if (Socket === undefined) throw new TypeError("expected a WebSocket constructor, here there is no global one");
  /** @type {(ticket: string | null, listener: LineListener) => Line} */
  const dial = (ticket, listener) => new WebSocketLine(url, ticket, listener, Socket, environment.now);
  const { ticket } = options;
  if (ticket === undefined) return (listener) => dial(null, listener);
  return (listener) => new TicketedLine(ticket, listener, dial, environment.now);
}

/**
 * A line that asks for a ticket first.
 *
 * @implements {Line}
 */
class TicketedLine {
  /** @type {Line | null} */
  #line = null;
  #isCut = false;
  #since;

  /**
   * @param {() => Promise<string>} ticket
   * @param {LineListener} listener
   * @param {(ticket: string, listener: LineListener) => Line} dial
   * @param {() => number} now
   */
  constructor(ticket, listener, dial, now) {
    this.#since = now();
    this.#begin(ticket, listener, dial);
  }

  get heardAt() {
    return this.#line?.heardAt ?? this.#since;
  }

  get buffered() {
    return this.#line?.buffered ?? 0;
  }

  /** @param {import("./types.js").ClientEvent} event */
  send(event) {
    this.#line?.send(event);
  }

  abort() {
    this.#isCut = true;
    this.#line?.abort();
  }

  /**
   * @param {() => Promise<string>} ticket
   * @param {LineListener} listener
   * @param {(ticket: string, listener: LineListener) => Line} dial
   */
  async #begin(ticket, listener, dial) {
    let given;
    try {
      given = await ticket();
    } catch {
      if (!this.#isCut) listener.ended({ code: row("abnormal"), why: "there is no ticket" });
      return;
    }
    if (!this.#isCut) this.#line = dial(given, listener);
  }
}

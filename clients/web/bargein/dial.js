/** @import { ClientEvent, Dial, Environment, Line, LineEnd, LineListener } from "./types.js" */

import { row } from "./codes.js";
import { SseLine } from "./sse.js";
import { WebSocketLine } from "./websocket.js";

const SESSION_PATH = "/v1/session";
/** How long a WebSocket may take to open when there is another way, in milliseconds. */
const FALL_BACK_AFTER_MS = 4000;

/** @typedef {"auto" | "websocket" | "sse"} Transport */
/** @typedef {(ticket: string | null, listener: LineListener) => Line} Make */

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
 * Where the same sessions are over HTTP: beside the socket, with an s.
 *
 * @param {string} url
 */
export function streamUrl(url) {
  const full = new URL(url);
  full.protocol = full.protocol.replace(/^ws/, "http");
  full.pathname = full.pathname.replace(/\/?$/, "s");
  return full.href;
}

/**
 * How lines are made. `auto` takes a WebSocket, and event streams where none opens; what worked is taken again,
 * until it does not.
 *
 * @param {string} url
 * @param {{transport?: Transport, token?: string, ticket?: () => Promise<string>, WebSocket?: typeof WebSocket}} options
 * @param {Environment} environment
 * @returns {Dial}
 */
export function dialer(url, { transport = "auto", token, ticket, WebSocket: given }, { now }) {
  const Socket = given ?? globalThis.WebSocket;
  if (Socket === undefined && transport !== "sse") {
    throw new TypeError("expected a WebSocket constructor, here there is no global one");
  }
  /** @type {Make} */
  const socket = (pass, listener) =>
    new WebSocketLine(url, pass, listener, Socket, now, transport === "auto" ? FALL_BACK_AFTER_MS : undefined);
  /** @type {Make} */
  const stream = (_, listener) => new SseLine(streamUrl(url), token ?? null, listener, now);
  let isStreaming = transport === "sse";
  return (listener) => {
    const ways = transport === "auto" && !isStreaming ? [socket, stream] : [isStreaming ? stream : socket];
    /** @param {Make} way */
    const worked = (way) => {
      isStreaming = way === stream;
    };
    const failed = () => {
      isStreaming = transport === "sse";
    };
    return new Attempt(ways, ticket ?? null, listener, { worked, failed }, now);
  };
}

/**
 * A line that is made in one way after the other, each with a ticket of its own.
 *
 * @implements {Line}
 */
class Attempt {
  /** @type {Line | null} */
  #line = null;
  #isCut = false;
  #since;
  /** What comes on a stream goes up in the first frame, as there is no handshake. @type {string | null} */
  #auth = null;

  /**
   * @param {Make[]} ways
   * @param {(() => Promise<string>) | null} ticket
   * @param {LineListener} listener
   * @param {{worked: (way: Make) => void, failed: () => void}} memory
   * @param {() => number} now
   */
  constructor(ways, ticket, listener, memory, now) {
    this.ways = ways;
    this.ticket = ticket;
    this.listener = listener;
    this.memory = memory;
    this.#since = now();
    this.#try();
  }

  get heardAt() {
    return this.#line?.heardAt ?? this.#since;
  }

  get buffered() {
    return this.#line?.buffered ?? 0;
  }

  /** @param {ClientEvent} event */
  send(event) {
    const withTicket = event.type === "session.open" && this.#line instanceof SseLine && this.#auth !== null;
    this.#line?.send(withTicket ? { ...event, auth: this.#auth } : event);
  }

  abort() {
    this.#isCut = true;
    this.#line?.abort();
  }

  async #try() {
    const way = this.ways.shift();
    if (way === undefined) return;
    let pass = null;
    try {
      if (this.ticket !== null) pass = await this.ticket();
    } catch {
      if (!this.#isCut) this.#ended({ code: row("abnormal"), why: "there is no ticket" }, false);
      return;
    }
    if (this.#isCut) return;
    this.#auth = pass;
    let isOpen = false;
    this.#line = way(pass, {
      opened: () => {
        isOpen ||= this.#line instanceof WebSocketLine;
        if (isOpen) this.memory.worked(way);
        this.listener.opened();
      },
      received: (event) => {
        if (!isOpen) this.memory.worked(way);
        isOpen = true;
        this.listener.received(event);
      },
      ended: (end) => this.#ended(end, isOpen),
    });
  }

  /**
   * @param {LineEnd} end
   * @param {boolean} wasOpen
   */
  #ended(end, wasOpen) {
    if (!wasOpen && this.ways.length > 0) {
      this.#try();
      return;
    }
    if (!wasOpen) this.memory.failed();
    this.listener.ended(end);
  }
}

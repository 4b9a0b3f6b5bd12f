/** @import { Channel, ChannelClosed, ChannelListener, ClientEvent, ConnectChannel, Environment } from "./types.js" */

import { row } from "./codes.js";
import { ConnectError } from "./errors.js";
import { SseChannel } from "./sse_channel.js";
import { WebSocketChannel } from "./websocket_channel.js";

const SESSION_PATH = "/v1/session";
/** Time that a WebSocket may take to open when there is a fallback, in milliseconds. */
const FALL_BACK_AFTER_MS = 4000;
/** The same when WebSockets opened before; less than the time of the whole attempt, so that a failure is counted. */
const TRUSTED_OPEN_MS = 8000;
/** Attempts with a WebSocket alone after one that opened: a failure then has another cause than the network's rules. */
const TRUSTED_ATTEMPTS = 3;

/** @typedef {"auto" | "websocket" | "sse"} Transport */
/** @typedef {(ticket: string | null, listener: ChannelListener) => Channel} OpenChannel */

/**
 * Returns the full URL of a session: relative URLs are resolved against the page, `http` becomes `ws`, and an empty
 * path becomes `/v1/session`.
 *
 * Throws a `ConnectError` for any other URL. `localhost:8000` is one: its scheme is `localhost`.
 *
 * @param {string} url
 */
export function sessionUrl(url) {
  const base = typeof location === "undefined" ? undefined : location.href;
  const full = parsed(url, base);
  if (full === null || !/^(ws|http)s?:$/.test(full.protocol)) {
    throw new ConnectError(url, "this is not a WebSocket URL, such as ws://localhost:8000");
  }
  full.protocol = full.protocol.replace(/^http/, "ws");
  full.hash = "";
  if (full.pathname === "/") full.pathname = SESSION_PATH;
  return full.href;
}

/**
 * @param {string} url
 * @param {string | undefined} base
 */
function parsed(url, base) {
  try {
    return new URL(url, base);
  } catch {
    return null;
  }
}

/**
 * Returns the URL of the same sessions over HTTP: the path of the socket in the plural.
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
 * Returns the function that opens the channels of a session. `auto` opens a WebSocket, and an event stream where the
 * network blocks WebSockets; a stream that worked is used again until it fails, a WebSocket for several attempts.
 *
 * @param {string} url
 * @param {{transport?: Transport, token?: string, ticket?: () => Promise<string>, WebSocket?: typeof WebSocket}} options
 * @param {Environment} environment
 * @returns {ConnectChannel}
 */
export function channelConnector(url, { transport = "auto", token, ticket, WebSocket: given }, { now }) {
  const Socket = given ?? globalThis.WebSocket;
  if (Socket === undefined && transport !== "sse") {
    throw new TypeError("expected a WebSocket constructor, this platform has no global one: pass that of the package ws");
  }
  let isStreaming = transport === "sse";
  let trusted = 0;
  const mayFallBack = () => transport === "auto" && trusted === 0;
  /** @type {OpenChannel} */
  const socket = (pass, listener) =>
    new WebSocketChannel(url, pass, listener, Socket, now, mayFallBack() ? FALL_BACK_AFTER_MS : TRUSTED_OPEN_MS);
  /** @type {OpenChannel} */
  const stream = (_, listener) => new SseChannel(streamUrl(url), token ?? null, listener, now);
  return (listener) => {
    const ways = isStreaming ? [stream] : mayFallBack() ? [socket, stream] : [socket];
    /** @param {OpenChannel} way */
    const worked = (way) => {
      isStreaming = way === stream;
      if (way === socket) trusted = TRUSTED_ATTEMPTS;
    };
    const failed = () => {
      isStreaming = transport === "sse";
      trusted = Math.max(0, trusted - 1);
    };
    return new FallbackChannel(ways, ticket ?? null, listener, { worked, failed }, now);
  };
}

/** Returns the reason of a connection that failed without one: browsers give pages no details. */
function notMade() {
  const hint = typeof location === "undefined" ? "" : `, or it does not allow the origin ${location.origin} (--origin)`;
  return `the connection could not be made: no server answers there${hint}`;
}

/**
 * Channel that tries one transport after the other, each with a new ticket.
 *
 * @implements {Channel}
 */
class FallbackChannel {
  /** @type {Channel | null} */
  #channel = null;
  #isAborted = false;
  #since;
  /** The ticket of a stream, sent in the first frame because a stream has no handshake. @type {string | null} */
  #auth = null;

  /**
   * @param {OpenChannel[]} ways
   * @param {(() => Promise<string>) | null} ticket
   * @param {ChannelListener} listener
   * @param {{worked: (way: OpenChannel) => void, failed: () => void}} memory
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

  get lastReceivedAt() {
    return this.#channel?.lastReceivedAt ?? this.#since;
  }

  get buffered() {
    return this.#channel?.buffered ?? 0;
  }

  /** @param {ClientEvent} event */
  send(event) {
    const withTicket = event.type === "session.open" && this.#channel instanceof SseChannel && this.#auth !== null;
    this.#channel?.send(withTicket ? { ...event, auth: this.#auth } : event);
  }

  abort() {
    this.#isAborted = true;
    this.#channel?.abort();
  }

  async #try() {
    const way = this.ways.shift();
    if (way === undefined) return;
    let pass = null;
    try {
      if (this.ticket !== null) pass = await this.ticket();
    } catch {
      if (!this.#isAborted) this.#closed({ code: row("abnormal"), why: "no ticket could be obtained" }, false);
      return;
    }
    if (this.#isAborted) return;
    this.#auth = pass;
    let isOpen = false;
    /** @type {ChannelListener} */
    const listener = {
      opened: () => {
        isOpen ||= this.#channel instanceof WebSocketChannel;
        if (isOpen) this.memory.worked(way);
        this.listener.opened();
      },
      received: (event) => {
        if (!isOpen) this.memory.worked(way);
        isOpen = true;
        this.listener.received(event);
      },
      closed: (reason) => this.#closed(reason, isOpen),
    };
    try {
      this.#channel = way(pass, listener);
    } catch (error) {
      // A constructor throws for a URL or a ticket that it cannot use, and for `ws:` on a page of `https:`.
      const why = error instanceof Error ? error.message : String(error);
      queueMicrotask(() => {
        if (!this.#isAborted) this.#closed({ code: row("abnormal"), why }, false);
      });
    }
  }

  /**
   * @param {ChannelClosed} reason
   * @param {boolean} wasOpen
   */
  #closed(reason, wasOpen) {
    if (!wasOpen && this.ways.length > 0) {
      this.#try();
      return;
    }
    if (!wasOpen) this.memory.failed();
    const isUnexplained = !wasOpen && reason.why === row("abnormal").reason;
    this.listener.closed(isUnexplained ? { ...reason, why: notMade() } : reason);
  }
}

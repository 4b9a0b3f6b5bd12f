/**
 * Channel over HTTP, for networks that block WebSockets: Server-Sent Events in the response to one request carry
 * events down, one request each carries them up, one after the other.
 *
 * @module
 */

/** @import { Channel, ChannelClosed, ChannelListener, ClientEvent } from "./types.js" */

import { decode, encode } from "./codec.js";
import { codeNamed, row } from "./codes.js";
import { ServerViolation } from "./errors.js";
import { EventStreamParser } from "./event_stream_parser.js";
import { NO_SLOT, takeSlot } from "./stream_slots.js";

/** The largest event that is read: a snapshot holds whole turns. */
const MAX_EVENT_CHARS = 16 * 1024 * 1024;
const STATUS_CODES = new Map([[401, "unauthorized"], [403, "forbidden"], [429, "share_used"], [503, "overloaded"]]);

/** Time that a request with an event may take. The event is repeated with the next stream, whose request carries it. */
const POST_TIMEOUT_MS = 10_000;

/** @implements {Channel} */
export class SseChannel {
  /** @type {ChannelListener | null} */
  #listener;
  #gone = new AbortController();
  /** Events that have not been sent yet, as JSON. @type {string[]} */
  #up = [];
  #isPosting = false;
  #token = "";
  #path = "";
  #url;
  #bearer;
  #now;

  /**
   * @param {string} url URL of the sessions, such as `https://example.com/v1/sessions`.
   * @param {string | null} bearer A credential for each request. A client with a ticket is authenticated by the
   *   cookie of the stream's response.
   * @param {ChannelListener} listener
   * @param {() => number} now
   */
  constructor(url, bearer, listener, now) {
    this.#url = url;
    this.#bearer = bearer;
    this.#listener = listener;
    this.#now = now;
    this.lastReceivedAt = now();
    // The first event is the body of the request, so there is nothing to wait for.
    queueMicrotask(() => this.#listener?.opened());
  }

  get buffered() {
    return this.#up.reduce((sum, text) => sum + text.length, 0);
  }

  /** @param {ClientEvent} event */
  send(event) {
    if (event.type === "session.open") {
      // A ticket is good once; the cookie of the answer is the credential of all further requests.
      /** @type {Record<string, string>} */
      const asks = event.auth === undefined ? {} : { "Bargein-Cookie": prefixOf(this.#url) };
      this.#guard(this.#read(encode(event), asks));
    } else {
      this.#up.push(encode(event));
      if (!this.#isPosting) this.#guard(this.#post());
    }
  }

  abort() {
    this.#listener = null;
    this.#gone.abort();
  }

  /**
   * Reads the stream to its end.
   *
   * @param {string} opening
   * @param {Record<string, string>} headers
   */
  async #read(opening, headers) {
    if (!(await takeSlot(new URL(this.#url).origin, this.#gone.signal))) {
      this.#close({ code: row("abnormal"), why: NO_SLOT });
      return;
    }
    const response = await this.#fetch(this.#url, opening, { Accept: "text/event-stream", ...headers });
    if (!response.ok || response.body === null) {
      this.#close(refusal(response));
      return;
    }
    const text = new TextDecoder();
    const parser = new EventStreamParser();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      this.lastReceivedAt = this.#now();
      for (const event of parser.feed(text.decode(value, { stream: true }))) this.#receive(event);
      if (parser.size > MAX_EVENT_CHARS) {
        throw new ServerViolation(`expected at most ${MAX_EVENT_CHARS} characters of an event, got more`);
      }
    }
    this.#close({ code: row("abnormal"), why: "the stream ended" });
  }

  /** @param {import("./event_stream_parser.js").StreamEvent} event */
  #receive({ kind, data }) {
    if (this.#listener === null) return;
    if (kind === "close") {
      const named = codeNamed(nameOf(data));
      const code = named?.closes ? named : row("abnormal");
      this.#close({ code, why: code.reason });
      return;
    }
    const event = decode(data);
    if (event.type === "session.opened") {
      this.#token = event.token;
      this.#path = `${this.#url}/${encodeURIComponent(event.session_id)}/events`;
    }
    this.#listener.received(event);
  }

  /** Sends the waiting events in order. */
  async #post() {
    this.#isPosting = true;
    for (let text = this.#up[0]; text !== undefined; text = this.#up[0]) {
      const timer = setTimeout(() => this.#close({ code: row("abnormal"), why: "no answer in time" }), POST_TIMEOUT_MS);
      const response = await this.#fetch(this.#path, text, { "Bargein-Session-Token": this.#token }).finally(() => clearTimeout(timer));
      if (!response.ok) {
        this.#close(refusal(response));
        return;
      }
      this.#up.shift();
    }
    this.#isPosting = false;
  }

  /**
   * @param {string} url
   * @param {string} body
   * @param {Record<string, string>} headers
   */
  #fetch(url, body, headers) {
    const { signal } = this.#gone;
    headers = { "Content-Type": "application/json", ...headers };
    if (this.#bearer !== null) headers.Authorization = `Bearer ${this.#bearer}`;
    return fetch(url, { method: "POST", body, headers, signal, cache: "no-store" });
  }

  /** @param {Promise<void>} work */
  async #guard(work) {
    try {
      await work;
    } catch (error) {
      // Errors of fetch have no details, so that a page learns nothing about its network.
      const why = error instanceof ServerViolation ? error.message : "the connection was lost";
      this.#close({ code: row("abnormal"), why });
    }
  }

  /** @param {ChannelClosed} reason */
  #close(reason) {
    const listener = this.#listener;
    this.abort();
    listener?.closed(reason);
  }
}

/**
 * @param {Response} response
 * @returns {ChannelClosed}
 */
function refusal({ status }) {
  const name = STATUS_CODES.get(status);
  if (name !== undefined) return { code: row(name), why: row(name).reason };
  return { code: row("abnormal"), why: `the server answered with HTTP status ${status}` };
}

/** Returns the name in a close event; "" when it has none. @param {string} data */
function nameOf(data) {
  try {
    return String(JSON.parse(data)?.name ?? "");
  } catch {
    return "";
  }
}

/**
 * Returns the path of the server, which includes a prefix that a proxy strips.
 *
 * @param {string} url
 */
function prefixOf(url) {
  return new URL(url).pathname.replace(/\/v1\/sessions$/, "") || "/";
}

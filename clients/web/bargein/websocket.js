/**
 * A line over a WebSocket: events instead of frames, rows of the table of codes instead of close events.
 *
 * A browser tells nothing of a handshake that was refused, and closes a dead socket only after a minute; so a
 * line that is cut is forgotten at once, whatever its socket still does.
 *
 * @module
 */

/** @import { AnyEvent, ClientEvent, Line, LineEnd, LineListener } from "./types.js" */

import { decode, encode } from "./codec.js";
import { codeOfClose, row } from "./codes.js";
import { ServerViolation } from "./errors.js";

const SUBPROTOCOL = "bargein.v1.json";
const TICKET_ITEM = "bargein.ticket.";
const OPEN_TIMEOUT_MS = 10_000;

/** @implements {Line} */
export class WebSocketLine {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {LineListener | null} */
  #listener;
  /** @type {ReturnType<typeof setTimeout>} */
  #timer;
  #now;

  /**
   * @param {string} url
   * @param {string | null} ticket Is sent as an item of the subprotocol list, which is not logged as URLs are.
   * @param {LineListener} listener
   * @param {typeof WebSocket} Socket
   * @param {() => number} now
   * @param {number} patienceMs How long it may take to open.
   */
  constructor(url, ticket, listener, Socket, now, patienceMs = OPEN_TIMEOUT_MS) {
    this.#listener = listener;
    this.#now = now;
    this.heardAt = now();
    this.#timer = setTimeout(() => this.#end({ code: row("abnormal"), why: "no answer in time" }), patienceMs);
    const socket = new Socket(url, ticket === null ? [SUBPROTOCOL] : [SUBPROTOCOL, TICKET_ITEM + ticket]);
    this.#socket = socket;
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.heardAt = this.#now();
      this.#listener?.opened();
    };
    socket.onmessage = (message) => this.#receive(message.data);
    // What went wrong is never told; the close event that follows has a code.
    socket.onerror = () => {};
    socket.onclose = (closed) => {
      const code = codeOfClose(closed.code);
      this.#end({ code, why: closed.reason || code.reason });
    };
  }

  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** @param {ClientEvent} event */
  send(event) {
    // A socket that is closing throws away what it is given; the core sends it again on the next line.
    if (this.#socket?.readyState === 1) this.#socket.send(encode(event));
  }

  abort() {
    this.#listener = null;
    this.#drop();
  }

  /** @param {unknown} data */
  #receive(data) {
    this.heardAt = this.#now();
    /** @type {AnyEvent} */
    let event;
    try {
      event = decode(data);
    } catch (error) {
      if (!(error instanceof ServerViolation)) throw error;
      this.#end({ code: row("abnormal"), why: error.message });
      return;
    }
    this.#listener?.received(event);
  }

  /** @param {LineEnd} end */
  #end(end) {
    const listener = this.#listener;
    this.abort();
    listener?.ended(end);
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

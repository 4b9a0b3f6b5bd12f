/**
 * Channel over a WebSocket: events instead of frames, rows of the table of codes instead of close events.
 *
 * A browser gives no details of a refused handshake, and closes a dead socket only after a minute. An aborted
 * channel therefore drops its socket immediately.
 *
 * @module
 */

/** @import { AnyEvent, Channel, ChannelClosed, ChannelListener, ClientEvent } from "./types.js" */

import { decode, encode } from "./codec.js";
import { codeOfClose, row } from "./codes.js";
import { ServerViolation } from "./errors.js";

const SUBPROTOCOL = "bargein.v1.json";
const TICKET_ITEM = "bargein.ticket.";
const OPEN_TIMEOUT_MS = 10_000;

/** @implements {Channel} */
export class WebSocketChannel {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ChannelListener | null} */
  #listener;
  /** @type {ReturnType<typeof setTimeout>} */
  #timer;
  #now;

  /**
   * @param {string} url
   * @param {string | null} ticket Sent as an item of the subprotocol list, which is not logged like URLs.
   * @param {ChannelListener} listener
   * @param {typeof WebSocket} Socket
   * @param {() => number} now
   * @param {number} timeoutMs Time that the socket may take to open.
   */
  constructor(url, ticket, listener, Socket, now, timeoutMs = OPEN_TIMEOUT_MS) {
    this.#listener = listener;
    this.#now = now;
    this.lastReceivedAt = now();
    this.#timer = setTimeout(() => this.#close({ code: row("abnormal"), why: "no answer in time" }), timeoutMs);
    const socket = new Socket(url, ticket === null ? [SUBPROTOCOL] : [SUBPROTOCOL, TICKET_ITEM + ticket]);
    this.#socket = socket;
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.lastReceivedAt = this.#now();
      this.#listener?.opened();
    };
    socket.onmessage = (message) => this.#receive(message.data);
    // The event has no details; the close event that follows has a code.
    socket.onerror = () => {};
    socket.onclose = (closed) => {
      const code = codeOfClose(closed.code);
      this.#close({ code, why: closed.reason || code.reason });
    };
  }

  get buffered() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** @param {ClientEvent} event */
  send(event) {
    // A socket that is closing discards the frame; the core repeats it on the next channel.
    if (this.#socket?.readyState === 1) this.#socket.send(encode(event));
  }

  abort() {
    this.#listener = null;
    this.#drop();
  }

  /** @param {unknown} data */
  #receive(data) {
    this.lastReceivedAt = this.#now();
    /** @type {AnyEvent} */
    let event;
    try {
      event = decode(data);
    } catch (error) {
      if (!(error instanceof ServerViolation)) throw error;
      this.#close({ code: row("abnormal"), why: error.message });
      return;
    }
    this.#listener?.received(event);
  }

  /** @param {ChannelClosed} reason */
  #close(reason) {
    const listener = this.#listener;
    this.abort();
    listener?.closed(reason);
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

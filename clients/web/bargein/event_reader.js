/** @import { AnyEvent } from "./types.js" */
/** @import { BargeinError } from "./errors.js" */
/** @import { Inbox } from "./inbox.js" */

/** Asynchronous access to an inbox; one loop reads at a time. */
export class EventReader {
  #closed = false;
  /** @type {BargeinError | null} */
  #error = null;
  /** @type {(() => void) | null} */
  #wake = null;

  /** @param {Inbox} inbox The inbox to read. */
  constructor(inbox) {
    this.inbox = inbox;
    inbox.notify = () => this.#wake?.();
  }

  /** Ends the stream: after the waiting events, `next` throws `error` or returns null. @param {BargeinError | null} error */
  close(error) {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#wake?.();
  }

  /** Returns the next event; null at the end. @returns {Promise<AnyEvent | null>} */
  async next() {
    for (;;) {
      const event = this.inbox.take();
      if (event !== undefined) return event;
      if (this.#closed) {
        if (this.#error !== null) throw this.#error;
        return null;
      }
      if (this.#wake !== null) throw new TypeError("expected one loop to read the events, got a second one");
      await new Promise((resolve) => {
        this.#wake = () => resolve(undefined);
      });
      this.#wake = null;
    }
  }
}

/**
 * Result that any number of callers may await. A rejection without a handler is not reported.
 *
 * @template T
 */
export class SharedResult {
  /** @type {(value: T) => void} */
  #resolve = () => {};
  /** @type {(error: BargeinError) => void} */
  #reject = () => {};

  constructor() {
    this.isSettled = false;
    /** @type {Promise<T>} */
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.promise.catch(() => {});
  }

  /** @param {T} value */
  resolve(value) {
    this.isSettled = true;
    this.#resolve(value);
  }

  /** @param {BargeinError} error */
  reject(error) {
    this.isSettled = true;
    this.#reject(error);
  }
}

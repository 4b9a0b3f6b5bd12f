/** @import { AnyEvent } from "./types.js" */
/** @import { BargeinError } from "./errors.js" */
/** @import { Inbox } from "./inbox.js" */

/** The asynchronous side of an inbox. One loop reads it at a time. */
export class Feed {
  #closed = false;
  /** @type {BargeinError | null} */
  #error = null;
  /** @type {(() => void) | null} */
  #wake = null;

  /** @param {Inbox} inbox Where the events wait. */
  constructor(inbox) {
    this.inbox = inbox;
    inbox.notify = () => this.#wake?.();
  }

  /** Nothing more comes: what waits can be read, then `next` throws `error` or gives null. @param {BargeinError | null} error */
  close(error) {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#wake?.();
  }

  /** The next event; null at the end. @returns {Promise<AnyEvent | null>} */
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
 * A promise that may be settled from outside, once; a rejection that nobody asked for is not reported.
 *
 * @template T
 */
export class Answer {
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

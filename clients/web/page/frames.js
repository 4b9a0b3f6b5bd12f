/**
 * One rendering a frame, whatever the line delivers: who has news asks for a frame, and all are drawn
 * in the next one. When drawing is dear, as at the end of a very long answer, it is done less often, so
 * that input is never kept waiting.
 *
 * @module
 */

/** What a frame may cost before frames are left out, in milliseconds. */
const CHEAP_MS = 8;
/** The longest time between two drawings, in milliseconds. */
const LONGEST_MS = 250;

export class Frames {
  /** @type {Set<{render(): void}>} */
  #waiting = new Set();
  #asked = false;
  #notBefore = 0;

  /** @param {() => void} [drawn] Is called after each drawing, in the same frame. */
  constructor(drawn = () => {}) {
    this.drawn = drawn;
  }

  /** Asks for `thing.render()` in one of the next frames. @param {{render(): void}} thing */
  request(thing) {
    this.#waiting.add(thing);
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => this.#frame(now));
  }

  /** Takes a request back. @param {{render(): void}} thing */
  cancel(thing) {
    this.#waiting.delete(thing);
  }

  /** @param {number} now */
  #frame(now) {
    if (now < this.#notBefore) {
      requestAnimationFrame((later) => this.#frame(later));
      return;
    }
    this.#asked = false;
    const began = performance.now();
    const things = [...this.#waiting];
    this.#waiting.clear();
    for (const thing of things) thing.render();
    this.drawn();
    // Layout and painting come after this callback, and the task after them tells what all of it cost.
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      const cost = performance.now() - began;
      this.#notBefore = cost > CHEAP_MS ? performance.now() + Math.min(2 * cost, LONGEST_MS) : 0;
      channel.port1.close();
    };
    channel.port2.postMessage(null);
  }
}

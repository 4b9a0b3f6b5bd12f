/**
 * One rendering per frame, however many events arrive: a view with changes requests a frame, and all requested views
 * are rendered in the next one. Expensive rendering, as of a very long answer, happens less often, so that input is
 * never delayed.
 *
 * @module
 */

/** Rendering time above which frames are skipped, in milliseconds. */
const CHEAP_MS = 8;
/** The longest time between two renderings, in milliseconds. */
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

  /** Requests `thing.render()` in one of the next frames. @param {{render(): void}} thing */
  request(thing) {
    this.#waiting.add(thing);
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => this.#frame(now));
  }

  /** Cancels a request. @param {{render(): void}} thing */
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
    // Layout and painting follow this callback; a task after them measures the total time.
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      const cost = performance.now() - began;
      this.#notBefore = cost > CHEAP_MS ? performance.now() + Math.min(2 * cost, LONGEST_MS) : 0;
      channel.port1.close();
    };
    channel.port2.postMessage(null);
  }
}

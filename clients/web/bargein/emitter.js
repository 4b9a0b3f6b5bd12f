/**
 * Listeners by name, with typed events.
 *
 * @template {Record<string, any>} Events
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(event: any) => void>>} */
  #listeners = new Map();

  /**
   * Calls `listener` with every event of this name. An exception of a listener does not affect the others; it is
   * reported as uncaught.
   *
   * @template {keyof Events} T
   * @param {T} type
   * @param {(event: Events[T]) => void} listener
   * @returns {() => void} A function that removes the listener.
   */
  on(type, listener) {
    let listeners = this.#listeners.get(type);
    if (listeners === undefined) this.#listeners.set(type, (listeners = new Set()));
    // Wrapped, so that a function that was added twice is removed once per call.
    const entry = (/** @type {Events[T]} */ event) => listener(event);
    listeners.add(entry);
    return () => {
      listeners.delete(entry);
    };
  }

  /** Returns whether a matching name has a listener. @param {(type: string) => boolean} matches */
  hasAny(matches) {
    for (const [type, listeners] of this.#listeners) if (listeners.size > 0 && matches(String(type))) return true;
    return false;
  }

  /**
   * @template {keyof Events} T
   * @param {T} type
   * @param {Events[T]} event
   */
  emit(type, event) {
    const listeners = this.#listeners.get(type);
    if (listeners === undefined) return;
    for (const listener of [...listeners]) {
      if (!listeners.has(listener)) continue; // removed by one before it
      try {
        listener(event);
      } catch (error) {
        reportUncaught(error);
      }
    }
  }
}

/** @param {unknown} error */
function reportUncaught(error) {
  if (typeof reportError === "function") reportError(error);
  else queueMicrotask(() => {
    throw error;
  });
}

/**
 * Typed listeners by name.
 *
 * @template {Record<string, any>} Events
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(event: any) => void>>} */
  #listeners = new Map();

  /**
   * Calls `listener` with every event of this name until the function that is returned is called. A
   * listener that throws disturbs nobody else; the error is reported as uncaught.
   *
   * @template {keyof Events} T
   * @param {T} type
   * @param {(event: Events[T]) => void} listener
   * @returns {() => void}
   */
  on(type, listener) {
    let listeners = this.#listeners.get(type);
    if (listeners === undefined) this.#listeners.set(type, (listeners = new Set()));
    // Wrapped, so that the same function may listen twice and each is removed on its own.
    const entry = (/** @type {Events[T]} */ event) => listener(event);
    listeners.add(entry);
    return () => {
      listeners.delete(entry);
    };
  }

  /** Whether anybody listens to one of these. @param {(type: string) => boolean} isMeant */
  hasAny(isMeant) {
    for (const [type, listeners] of this.#listeners) if (listeners.size > 0 && isMeant(String(type))) return true;
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

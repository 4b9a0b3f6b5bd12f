/** @import { Environment, Notice } from "./types.js" */

/**
 * Returns the environment of the browser; of Node.js, without notices of the device.
 *
 * @returns {Environment}
 */
export function browserEnvironment() {
  return {
    newId,
    random: Math.random,
    now: Date.now,
    setTimer: (act, ms) => setTimeout(act, ms),
    clearTimer: (timer) => clearTimeout(timer),
    watch,
  };
}

/** Returns a random id. Not `crypto.randomUUID`, which exists only in secure contexts. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {(notice: Notice) => void} notify */
function watch(notify) {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const stop = new AbortController();
  const { signal } = stop;
  window.addEventListener("online", () => notify("online"), { signal });
  window.addEventListener("offline", () => notify("offline"), { signal });
  // A page may go into the back/forward cache when the user leaves it, and return from there.
  window.addEventListener("pagehide", (event) => event.persisted && notify("stored"), { signal });
  window.addEventListener("pageshow", (event) => event.persisted && notify("visible"), { signal });
  document.addEventListener("resume", () => notify("thawed"), { signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && notify("visible"), { signal });
  return () => stop.abort();
}

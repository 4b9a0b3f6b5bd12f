/** @import { Environment } from "./types.js" */

/**
 * Where chance, ids, time, and news of the device come from: the browser, or as much of it as there is.
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

/** Not `crypto.randomUUID`, which only pages of secure origins have. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {(news: "online" | "offline" | "visible") => void} tell */
function watch(tell) {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const stop = new AbortController();
  const { signal } = stop;
  window.addEventListener("online", () => tell("online"), { signal });
  window.addEventListener("offline", () => tell("offline"), { signal });
  // A page that comes back from the cache of pages has lost its sockets without being told.
  window.addEventListener("pageshow", (event) => event.persisted && tell("visible"), { signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && tell("visible"), { signal });
  return () => stop.abort();
}

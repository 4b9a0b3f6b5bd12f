/**
 * Slots for event streams, shared by all tabs of a browser.
 *
 * Over HTTP/1.1 a browser opens six connections to a server. A stream occupies one of them as long as it lives: six
 * tabs with one each could send nothing, and no further page would load. Four tabs may have a stream, and two
 * connections stay free.
 *
 * @module
 */

const MAX_STREAMS = 4;
/** A slot becomes free a moment after its stream, or its tab, was closed. */
const TRY_AGAIN_MS = 500;

/** Reason why a tab has no stream, for people. */
export const NO_SLOT =
  `${MAX_STREAMS} other tabs have an event stream to this server, and browsers allow no more over HTTP/1.1; close one of them`;

/**
 * Takes a slot until `signal` aborts; resolves with false when other tabs hold all of them.
 *
 * Pages without Web Locks (plain HTTP, other than from this machine) cannot see other tabs and always get a slot.
 *
 * @param {string} origin The server's origin.
 * @param {AbortSignal} signal
 */
export async function takeSlot(origin, signal) {
  if (typeof location === "undefined" || navigator.locks === undefined || isMultiplexed(origin)) return true;
  if (await take(origin, signal)) return true;
  await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS));
  return take(origin, signal);
}

/** @param {string} origin @param {AbortSignal} signal */
async function take(origin, signal) {
  for (let number = 1; number <= MAX_STREAMS; number++) {
    if (await hold(`bargein.stream.${number} ${origin}`, signal)) return true;
  }
  return false;
}

/**
 * Resolves with whether the lock is held now.
 *
 * @param {string} name
 * @param {AbortSignal} signal
 * @returns {Promise<boolean>}
 */
function hold(name, signal) {
  return new Promise((resolve) => {
    const held = navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      if (lock === null || signal.aborted) return;
      return new Promise((release) => signal.addEventListener("abort", release));
    });
    held.catch(() => resolve(true)); // no locks in a sandboxed frame
  });
}

/** Returns whether the server is known to answer over HTTP/2 or 3, which share one connection. @param {string} origin */
function isMultiplexed(origin) {
  return performance.getEntries().some((entry) => {
    const { name, nextHopProtocol = "" } = /** @type {PerformanceResourceTiming} */ (entry);
    return /^h[23]/.test(nextHopProtocol) && name.startsWith(`${origin}/`);
  });
}

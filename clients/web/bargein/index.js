/**
 * The browser client of bargein: sessions that survive broken lines, turns that can be interrupted.
 *
 *     const session = await connect("wss://example.com/v1/session");
 *     const turn = session.send("Tell me a long story");
 *     for await (const event of turn) if (event.type === "text.delta") show(event.text);
 *     await turn.interrupt();                          // from anywhere; silence at once
 *
 * @module
 */

/** @import { ClientInfo, Environment, SessionEvents } from "./types.js" */

import { ClientCore } from "./core.js";
import { browserEnvironment } from "./environment.js";
import { restore } from "./saved.js";
import { Session } from "./session.js";
import { dialer, sessionUrl } from "./dial.js";

export * from "./errors.js";
export { CODES } from "./codes.js";
export { countCharacters, firstCharacters } from "./kinds.js";
export { Session } from "./session.js";
export { Turn } from "./turn.js";
/** @typedef {import("./types.js").ConnectionState} ConnectionState */
/** @typedef {import("./types.js").ServerEvent} ServerEvent */
/** @typedef {import("./types.js").ClientEvent} ClientEvent */
/** @typedef {import("./types.js").TurnEvent} TurnEvent */
/** @typedef {import("./types.js").Fold} Fold */
/** @typedef {import("./types.js").Lane} Lane */
/** @typedef {import("./types.js").Tool} Tool */
/** @typedef {import("./types.js").ResumeState} ResumeState */

/**
 * @typedef {object} ConnectOptions
 * @property {string} [token] A credential; it travels in the first frame, never in the URL.
 * @property {() => Promise<string>} [ticket] Asked for a fresh ticket before each connection, for servers that
 *   ask who is there. It is good once.
 * @property {import("./dial.js").Transport} [transport] `websocket`, `sse` for Server-Sent Events, or `auto`: a
 *   WebSocket, and Server-Sent Events where none gets through.
 * @property {ResumeState | null} [resume] What `Session.resumeState` gave on an earlier page. When the server has
 *   lost that session, this is a fresh one, and a `client.restarted` says so.
 * @property {ClientInfo} [client] What this program calls itself, for the server's logs.
 * @property {(event: SessionEvents["*"]) => void} [onEvent] A listener for `*` from the very beginning.
 * @property {(session: Session) => void} [onSession] Gets the session before it is open, to listen to everything from
 *   the beginning, and to send at once: what is sent waits for the line.
 * @property {boolean} [reconnect] Whether to come back by itself when the line breaks; true when absent.
 * @property {number} [giveUpAfterMs] How long to try in one outage; 300,000 when absent.
 * @property {typeof WebSocket} [WebSocket] A constructor, where there is no global one.
 * @property {Partial<Environment>} [environment] Where chance, ids and time come from, for tests.
 */

/**
 * Opens a session; resolves when it is live, after a `resume` when what was missed has been delivered.
 *
 * Rejects with a `ConnectError` when the first connection cannot be made. A session that was given to `resume`
 * is tried for until `giveUpAfterMs`.
 *
 * @param {string} url Such as `wss://example.com/v1/session`, or relative to the page.
 * @param {ConnectOptions} [options]
 */
export async function connect(url, options = {}) {
  const environment = { ...browserEnvironment(), ...options.environment };
  const core = new ClientCore({
    auth: options.token ?? null,
    client: options.client ?? { name: "bargein-web" },
  });
  if (options.resume?.version === 1) restore(core, options.resume);
  const at = sessionUrl(url);
  const session = new Session(at, dialer(at, options, environment), core, environment, {
    reconnect: options.reconnect ?? true,
    giveUpAfterMs: options.giveUpAfterMs ?? 300_000,
  });
  if (options.onEvent) session.on("*", options.onEvent);
  options.onSession?.(session);
  await session.open();
  return session;
}

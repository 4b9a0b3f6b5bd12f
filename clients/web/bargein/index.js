/**
 * JavaScript client of bargein: sessions that survive broken connections, turns that can be interrupted.
 *
 *     const session = await connect("wss://example.com/v1/session");
 *     const turn = session.send("Tell me a long story");
 *     for await (const event of turn) if (event.type === "text.delta") show(event.text);
 *     await turn.interrupt();                          // from anywhere; output stops immediately
 *
 * @module
 */

/** @import { ClientInfo, Environment, SessionAudio, SessionEvents } from "./types.js" */

import { ClientCore } from "./core.js";
import { browserEnvironment } from "./environment.js";
import { current, restore } from "./saved.js";
import { ClientSession } from "./session.js";
import { channelConnector, sessionUrl } from "./transports.js";

export * from "./errors.js";
export { CODES } from "./codes.js";
export { listConversations, openConversation } from "./conversations.js";
export { countCharacters, firstCharacters } from "./kinds.js";
export { Microphone } from "./microphone.js";
export { ClientSession } from "./session.js";
export { ClientTurn } from "./turn.js";
/** @typedef {import("./types.js").ConnectionState} ConnectionState */
/** @typedef {import("./types.js").ServerEvent} ServerEvent */
/** @typedef {import("./types.js").ClientEvent} ClientEvent */
/** @typedef {import("./types.js").TurnEvent} TurnEvent */
/** @typedef {import("./delivery.js").Delivery} Delivery */
/** @typedef {import("./types.js").FullTurnState} FullTurnState */
/** @typedef {import("./types.js").Lane} Lane */
/** @typedef {import("./types.js").Tool} Tool */
/** @typedef {import("./types.js").ResumeState} ResumeState */
/** @typedef {import("./types.js").Resume} Resume */
/** @typedef {import("./types.js").Conversation} Conversation */
/** @typedef {import("./types.js").OpenedConversation} OpenedConversation */

/**
 * @typedef {object} ConnectOptions
 * @property {string} [token] A credential; sent in the first frame, never in the URL.
 * @property {() => Promise<string>} [ticket] Returns a new single-use ticket; called before each connection, for
 *   servers that authenticate clients.
 * @property {import("./transports.js").Transport} [transport] `websocket`, `sse` for Server-Sent Events, or `auto`: a
 *   WebSocket, and Server-Sent Events where the network blocks WebSockets.
 * @property {ResumeState | Resume | null} [resume] The result of `ClientSession.resumeState` on an earlier page, or the way
 *   into a conversation that began elsewhere (`openConversation`). If the server has lost that session, this is a fresh
 *   one, and a `client.restarted` event reports it.
 * @property {ClientInfo} [client] Name and version of this program, for the server's logs.
 * @property {SessionAudio} [audio] Formats of the audio to send (`ClientSession.microphone`) and to get; neither when
 *   absent.
 * @property {(event: SessionEvents["*"]) => void} [onEvent] A listener for `*` that misses no event.
 * @property {(session: ClientSession) => void} [onSession] Called with the session before it is open, to add listeners
 *   that miss no event, and to send inputs that wait for the connection.
 * @property {boolean} [reconnect] Whether to reconnect automatically; true when absent.
 * @property {number} [giveUpAfterMs] The longest outage, after which the session ends; 300,000 when absent.
 * @property {typeof WebSocket} [WebSocket] A constructor, for platforms without a global one.
 * @property {Partial<Environment>} [environment] Sources of ids, randomness and time, for tests.
 */

/**
 * Opens a session; resolves when it is live, with a `resume` after all missed events have been delivered.
 *
 * Rejects with a `ConnectError` when the first connection cannot be made. With a `resume`, attempts go on until
 * `giveUpAfterMs`.
 *
 * @param {string} url Such as `wss://example.com/v1/session`, or relative to the page.
 * @param {ConnectOptions} [options]
 */
export async function connect(url, options = {}) {
  const environment = { ...browserEnvironment(), ...options.environment };
  const core = new ClientCore({
    auth: options.token ?? null,
    client: options.client ?? { name: "bargein-web" },
    audio: options.audio ?? null,
  });
  const resume = current(options.resume ?? null);
  if (resume !== null) restore(core, resume);
  const at = sessionUrl(url);
  const session = new ClientSession(at, channelConnector(at, options, environment), core, environment, {
    reconnect: options.reconnect ?? true,
    giveUpAfterMs: options.giveUpAfterMs ?? 300_000,
  });
  if (options.onEvent) session.on("*", options.onEvent);
  options.onSession?.(session);
  await session._open();
  return session;
}

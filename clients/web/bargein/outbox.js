/**
 * What must reach the server although lines break.
 *
 * Inputs and interrupts are kept until they are answered and sent again with the same id, which the
 * server answers with its first answer. Everything else that is kept may arrive twice without harm:
 * metadata is merged, playback only moves forward, and a tool call takes one result.
 *
 * @module
 */

/** @import { ClientEvent, JsonObject, PendingEvent, Played, PlaybackEvent, SessionOpen, ToolAnswer } from "./types.js" */

import { TooManyPending } from "./errors.js";
import { sizeOnWire } from "./kinds.js";

const KEPT_PLAYBACK = 8;
const KEPT_TOOLS = 64;
const MAX_KEYS = 1024;

/**
 * Requests without an answer, and the last word on everything else.
 *
 * Inputs that were made after a change of metadata stay behind it: until one of them is answered, the
 * change may not have arrived, and the agent would run with the old values.
 */
export class Outbox {
  /** @type {Map<string, PendingEvent>} */
  unanswered = new Map();
  /** @type {Map<string, unknown>} */
  #metadata = new Map();
  #metadataUnsure = false;
  /** @type {Set<string>} */
  #behindMetadata = new Set();
  /** @type {Map<string, PlaybackEvent>} */
  #playback = new Map();
  /** @type {Map<string, ToolAnswer>} */
  #tools = new Map();

  /**
   * Keeps a request until it is answered.
   *
   * @param {PendingEvent} request
   * @param {number} limit So many may wait; beyond it a `TooManyPending` is thrown and nothing has changed.
   */
  add(request, limit) {
    if (this.unanswered.size >= limit) throw new TooManyPending(limit);
    this.unanswered.set(request.id, request);
    if (this.#metadataUnsure && request.type === "input.text") this.#behindMetadata.add(request.id);
  }

  /** Strikes a request off and returns it; undefined when it is not waiting. @param {string} requestId */
  answer(requestId) {
    if (this.#behindMetadata.has(requestId)) {
      this.#behindMetadata.clear();
      this.#metadataUnsure = false;
    }
    const request = this.unanswered.get(requestId);
    this.unanswered.delete(requestId);
    return request;
  }

  /** The application parameters that were given so far; a null stands for the removal of its key. */
  get metadata() {
    return Object.fromEntries(this.#metadata);
  }

  /** Remembers application parameters. @param {JsonObject} metadata */
  merge(metadata) {
    for (const [key, value] of Object.entries(metadata)) this.#metadata.set(key, value);
    this.#metadataUnsure = true;
  }

  /**
   * Remembers what was heard of a turn and returns all that is known of it.
   *
   * @param {string} turnId
   * @param {Played} played
   * @returns {PlaybackEvent}
   */
  report(turnId, played) {
    const before = this.#playback.get(turnId) ?? { type: "playback", turn_id: turnId };
    const news = Object.entries(played).filter(([, value]) => value != null);
    const known = /** @type {PlaybackEvent} */ ({ ...before, ...Object.fromEntries(news) });
    this.#playback.delete(turnId);
    this.#playback.set(turnId, known);
    dropOldest(this.#playback, KEPT_PLAYBACK);
    return known;
  }

  /**
   * Keeps what a tool call waits for until `toolSettled`; beyond a bound the oldest is given up.
   *
   * @param {ToolAnswer} event
   */
  keepTool(event) {
    this.#tools.set(event.call_id, event);
    dropOldest(this.#tools, KEPT_TOOLS);
  }

  /** Forgets what was kept for a call. @param {string} callId */
  toolSettled(callId) {
    this.#tools.delete(callId);
  }

  /**
   * The requests that fit into `opening`, in order; the others follow it. Interrupts come in any case, so
   * that nothing of what they stop is replayed as if it were live.
   *
   * @param {SessionOpen} opening
   * @param {number} frameBytes
   */
  pending(opening, frameBytes) {
    const requests = [...this.unanswered.values()];
    let room = frameBytes - sizeOnWire(opening) - '"pending":[],'.length;
    for (const request of requests) if (request.type === "interrupt") room -= sizeOnWire(request) + 1;
    return requests.filter((request) => {
      if (request.type === "interrupt") return true;
      room = this.#behindMetadata.has(request.id) ? -1 : room - sizeOnWire(request) - 1;
      return room >= 0;
    });
  }

  /**
   * What follows a `session.open` that carried the requests in `sent`.
   *
   * @param {Set<string>} sent
   * @param {number} frameBytes
   * @returns {ClientEvent[]}
   */
  afterOpen(sent, frameBytes) {
    const updates = this.#updates(frameBytes);
    if (updates.length > 0) this.#metadataUnsure = true;
    const requests = [...this.unanswered.values()].filter((request) => !sent.has(request.id));
    return [...updates, ...this.#playback.values(), ...this.#tools.values(), ...requests];
  }

  /**
   * The merged metadata in pieces that the server reads: it came in several, too.
   *
   * @param {number} frameBytes
   * @returns {ClientEvent[]}
   */
  #updates(frameBytes) {
    /** @type {JsonObject[]} */
    const pieces = [];
    let [size, keys] = [Infinity, 0];
    for (const [key, value] of this.#metadata) {
      const grown = sizeOnWire({ type: "session.update", metadata: { [key]: value } });
      if (size + grown > frameBytes || keys === MAX_KEYS) {
        pieces.push({});
        size = keys = 0;
      }
      Object.assign(/** @type {JsonObject} */ (pieces.at(-1)), { [key]: value });
      size += grown;
      keys += 1;
    }
    return pieces.map((metadata) => ({ type: "session.update", metadata }));
  }

  /**
   * Forgets everything but the metadata, which a fresh session needs as well.
   *
   * @returns {PendingEvent[]} The requests that will never be answered.
   */
  lose() {
    const lost = [...this.unanswered.values()];
    this.unanswered.clear();
    this.#behindMetadata.clear();
    this.#playback.clear();
    this.#tools.clear();
    for (const [key, value] of this.#metadata) if (value === null) this.#metadata.delete(key);
    return lost;
  }
}

/**
 * @param {Map<string, unknown>} map
 * @param {number} most
 */
function dropOldest(map, most) {
  if (map.size > most) map.delete(/** @type {string} */ (map.keys().next().value));
}

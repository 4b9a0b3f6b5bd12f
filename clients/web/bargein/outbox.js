/**
 * Requests and reports that must reach the server even when connections break.
 *
 * Inputs, interrupts and rewinds are kept until they are answered. They are sent again under the same id, and the server
 * repeats its first answer. The other events may arrive twice without harm: metadata is merged, playback only
 * moves forward, and a tool call takes one result.
 *
 * @module
 */

/** @import { ClientEvent, JsonObject, Limits, PendingEvent, Played, PlaybackEvent, SessionOpen, ToolAnswer } from "./types.js" */

import { TooLarge, TooManyPending } from "./errors.js";
import { countCharacters, sizeOf, sizeOnWire } from "./kinds.js";

/** Requests for a turn. */
export const INPUTS = Object.freeze(["input.text", "input.commit"]);
const MAX_PLAYBACK = 8;
const MAX_TOOLS = 64;
const MAX_KEYS = 1024;
const MAX_INPUT_CHARS = 65_536;
const MAX_PENDING = 64;
const MAX_ATTACHMENTS = 8;

/**
 * Returns a copy of an event, which later changes of the application's values do not reach. Throws `TooLarge` for an
 * event that exceeds the server's limits, and a `TypeError` for a value that JSON cannot hold.
 *
 * @template {ClientEvent} T
 * @param {T} event
 * @param {Limits | null} limits
 * @returns {T}
 */
export function checked(event, limits) {
  const characters = event.type === "input.text" ? countCharacters(event.text) : 0;
  if (characters > MAX_INPUT_CHARS) throw new TooLarge(characters, MAX_INPUT_CHARS, "characters");
  const files = event.type === "input.text" ? (event.attachments?.length ?? 0) : 0;
  if (files > MAX_ATTACHMENTS) throw new TooLarge(files, MAX_ATTACHMENTS, "attachments");
  const text = JSON.stringify(event);
  const size = sizeOf(text);
  if (limits !== null && size > limits.frame_bytes) throw new TooLarge(size, limits.frame_bytes, "bytes");
  return JSON.parse(text);
}

/**
 * Unanswered requests, and the latest value of everything else that must arrive.
 *
 * Inputs that were made after a change of metadata stay behind it. Until one of them is answered, the change may
 * not have arrived, and the agent would run with the old values.
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
   * Keeps a copy of a request until it is answered, and returns it; the caller sends it. Throws `TooLarge`,
   * `TypeError` and `TooManyPending`; then nothing has changed.
   *
   * @template {PendingEvent} T
   * @param {T} request
   * @param {Limits | null} limits
   */
  admit(request, limits) {
    const copy = checked(request, limits);
    const limit = Math.min(MAX_PENDING, limits?.pending ?? MAX_PENDING);
    if (this.unanswered.size >= limit) throw new TooManyPending(limit);
    this.keep(copy);
    return copy;
  }

  /**
   * Keeps a request until it is answered.
   *
   * @param {PendingEvent} request
   */
  keep(request) {
    this.unanswered.set(request.id, request);
    if (this.#metadataUnsure && request.type === "input.text") this.#behindMetadata.add(request.id);
  }

  /**
   * Removes a request that was answered and returns it; undefined when none waits.
   *
   * @param {string} requestId
   * @param {readonly string[] | null} types Types of request that the answer is for, null for any; another request goes
   *   on waiting.
   */
  answer(requestId, types = null) {
    if (types !== null && !types.includes(this.unanswered.get(requestId)?.type ?? "")) return undefined;
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

  /** Keeps application parameters. @param {JsonObject} metadata */
  merge(metadata) {
    for (const [key, value] of Object.entries(metadata)) this.#metadata.set(key, value);
    this.#metadataUnsure = true;
  }

  /**
   * Merges a playback report into those for the same turn and returns the result.
   *
   * @param {string} turnId
   * @param {Played} played
   * @returns {PlaybackEvent}
   */
  report(turnId, played) {
    const before = this.#playback.get(turnId) ?? { type: "playback", turn_id: turnId };
    const given = Object.entries(played).filter(([, value]) => value != null);
    const report = /** @type {PlaybackEvent} */ ({ ...before, ...Object.fromEntries(given) });
    this.#playback.delete(turnId);
    this.#playback.set(turnId, report);
    dropOldest(this.#playback, MAX_PLAYBACK);
    return report;
  }

  /**
   * Keeps the answer to a tool call until `toolSettled`; beyond a bound the oldest is dropped.
   *
   * @param {ToolAnswer} event
   */
  keepTool(event) {
    this.#tools.set(event.call_id, event);
    dropOldest(this.#tools, MAX_TOOLS);
  }

  /** Forgets the answers to calls. @param {Iterable<string>} callIds */
  toolsSettled(callIds) {
    for (const callId of callIds) this.toolSettled(callId);
  }

  /** Forgets the answer to a call. @param {string} callId */
  toolSettled(callId) {
    this.#tools.delete(callId);
  }

  /**
   * Returns the requests that fit into `opening`, in order; the others follow it. Interrupts and rewinds always fit,
   * so that the turns that they end are not replayed as if they were live.
   *
   * @param {SessionOpen} opening
   * @param {number} frameBytes
   */
  pending(opening, frameBytes) {
    const requests = [...this.unanswered.values()];
    let room = frameBytes - sizeOnWire(opening) - '"pending":[],'.length;
    for (const request of requests) if (request.type !== "input.text") room -= sizeOnWire(request) + 1;
    return requests.filter((request) => {
      if (request.type !== "input.text") return true;
      room = this.#behindMetadata.has(request.id) ? -1 : room - sizeOnWire(request) - 1;
      return room >= 0;
    });
  }

  /**
   * Returns the events after a `session.open` that carried the requests in `sent`.
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
   * Returns the merged metadata in pieces below the limits, as the application gave it.
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
   * Forgets everything but the metadata, which a fresh session needs too.
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

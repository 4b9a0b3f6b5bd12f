/**
 * Events and their JSON text. Server events are validated against `shapes.js`, so that all other modules can rely
 * on their fields; unknown fields and types are accepted.
 *
 * @module
 */

/** @import { AnyEvent, ClientEvent } from "./types.js" */

import { ServerViolation } from "./errors.js";
import { countCharacters } from "./kinds.js";
import { EVENTS, OBJECTS } from "./shapes.js";

/** @typedef {[string, [number, any]][]} Fields By name: presence and shape; see `scripts/web_types.js`. */

/** Bounds of a value for the application. */
const MAX_DEPTH = 64;
const MAX_VALUES = 65_536;

/** @type {Fields} */
const UNKNOWN = [["seq", [1, ["integer", 0, Number.MAX_SAFE_INTEGER]]], ["turn_id", [1, ["string", 0, 64]]]];
/** @type {Map<string | undefined, Fields>} */
const FIELDS = new Map(Object.entries(OBJECTS).map(([name, fields]) => [name, Object.entries(fields)]));

/** Returns the text of an event, without lone surrogates, which servers reject. @param {ClientEvent} event */
export function encode(event) {
  const text = JSON.stringify(event);
  return text.includes("\\ud") ? text.replace(ESCAPES, (escape) => (escape.startsWith("\\ud") ? "\\ufffd" : escape)) : text;
}

/** Escapes of JSON; those of lone surrogates whole. */
const ESCAPES = /\\(?:ud[89a-f]..|.)/g;

/**
 * Returns the event in a frame of the server. Throws a `ServerViolation` for a frame without a valid event.
 *
 * @param {unknown} frame
 * @returns {AnyEvent}
 */
export function decode(frame) {
  let event;
  try {
    event = JSON.parse(/** @type {string} */ (frame));
  } catch {
    throw new ServerViolation("expected an event, got a frame that is not JSON");
  }
  if (!isObject(event) || typeof event.type !== "string") throw new ServerViolation("expected an event with a type");
  if (event.type.startsWith("client.")) throw new ServerViolation("expected an event of a server, got one of a client");
  const name = Object.hasOwn(EVENTS, event.type) ? EVENTS[event.type] : undefined;
  checkFields(event, FIELDS.get(name) ?? UNKNOWN, event.type);
  return /** @type {AnyEvent} */ (event);
}

/**
 * @param {any} value
 * @param {Fields} fields
 * @param {string} where
 */
function checkFields(value, fields, where) {
  for (const [field, [presence, shape]] of fields) {
    const given = value[field];
    if (given === undefined ? presence > 0 : given === null && presence === 2) continue;
    checkValue(given, shape, `${where}.${field}`);
  }
}

/**
 * @param {any} value
 * @param {any[]} shape
 * @param {string} where
 */
function checkValue(value, shape, where) {
  const [kind, first, second, third] = shape;
  switch (kind) {
    case "any":
      return expect(value !== undefined && isOpenValue(value), where);
    case "boolean":
      return expect(typeof value === "boolean", where);
    case "string":
      return expect(typeof value === "string" && value.length >= first && isAtMost(value, second), where);
    case "bytes":
      return expect(typeof value === "string" && value.length <= first && isBase64(value), where);
    case "integer":
      return expect(Number.isSafeInteger(value) && value >= first && value <= second, where);
    case "number":
      return expect(typeof value === "number" && value >= first && value <= second, where);
    case "enum":
      return expect(shape.indexOf(value) > 0, where);
    case "object":
      expect(isObject(value), where);
      return checkFields(value, FIELDS.get(first) ?? [], where);
    case "list":
      expect(Array.isArray(value) && value.length <= first, where);
      return value.forEach((/** @type {any} */ item) => checkValue(item, second, where));
    case "map":
      expect(isObject(value) && Object.keys(value).length <= first, where);
      for (const [key, item] of Object.entries(value)) {
        expect(isAtMost(key, second), where);
        checkValue(item, third, where);
      }
  }
}

/**
 * @param {boolean} isRight
 * @param {string} where
 */
function expect(isRight, where) {
  if (!isRight) throw new ServerViolation(`expected another value in ${where}`);
}

/**
 * @param {string} text
 * @param {number} characters
 */
function isAtMost(text, characters) {
  return text.length <= characters || countCharacters(text) <= characters;
}

/**
 * Returns whether a value for the application is within its bounds. A deeper one could be read, but functions that
 * copy or encode it run out of stack.
 *
 * @param {unknown} value
 */
function isOpenValue(value) {
  let level = [value];
  let values = 0;
  for (let depth = 0; depth < MAX_DEPTH && level.length > 0; depth++) {
    /** @type {unknown[]} */
    const inner = [];
    for (const one of level) {
      if (typeof one !== "object" || one === null) continue;
      const items = Object.values(one);
      values += Array.isArray(one) ? items.length : 2 * items.length;
      if (values > MAX_VALUES) return false;
      for (const item of items) inner.push(item);
    }
    level = inner;
  }
  return level.every((one) => typeof one !== "object" || one === null);
}

/** @param {string} text */
function isBase64(text) {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
}

/** @param {unknown} value @returns {value is Record<string, any>} */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

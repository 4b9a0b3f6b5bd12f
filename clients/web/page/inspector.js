/**
 * Inspector of the protocol: every sent and received event with its number and time, and a timeline of the last
 * interrupt or barge-in by voice.
 *
 * The inspector keeps the last 2,000 events and renders only the visible rows, so that a fast answer costs nothing
 * while the inspector is closed and little while it is open.
 *
 * @module
 */

import { BargeIns } from "./barge_ins.js";
import { byId, el, say } from "./dom.js";
import { speechTimeline, timeline } from "./timeline.js";

/** @import { Frames } from "./frames.js" */
/** @import { Cut } from "./types.js" */

const MOST_KEPT = 2000;
const ROW_PX = 24;
/** Fields with secrets, which are hidden, because users share their screens. */
const SECRETS = new Set(["token", "auth"]);

/**
 * @typedef {object} Entry
 * @property {number} at Milliseconds since the page was opened.
 * @property {"up" | "down"} way
 * @property {Record<string, any>} event
 */

/** @type {[name: string, types: RegExp][]} */
const KINDS = [
  ["Turns", /^(?:input|turn)\./],
  ["Interrupts", /^(?:interrupt|playback$)/],
  ["Text", /^(?:text\.delta|transcript)/],
  ["Steps", /^(?:status|thought|progress|step\.|tool\.|data)/],
  ["Sound", /^(?:audio|speech)/],
  ["Session", /^(?:session|replay|snapshot|heartbeat|pong|ping|goaway|error|client)/],
];

export class Inspector {
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Entry[]} */
  #shown = [];
  #count = 0;
  /** @type {Entry | null} */
  #chosen = null;
  /** @type {Set<string>} */
  #hidden = new Set();
  #isStale = true;
  #drawer = byId("inspector");
  #toggle = byId("toggle-inspector");
  #list = byId("events");
  #rows = el("div", { class: "rows" });
  #detail = byId("event-detail");
  #total = byId("event-count");
  #bargeIns = new BargeIns((bargeIn) => byId("timeline").replaceChildren(speechTimeline(bargeIn)));
  #search = /** @type {HTMLInputElement} */ (byId("event-search"));

  /** @param {Frames} frames @param {() => void} toggled It was opened or shut, and what is beside it has another width. */
  constructor(frames, toggled) {
    this.frames = frames;
    this.toggled = toggled;
    this.#list.append(this.#rows);
    this.#list.addEventListener("scroll", () => frames.request(this));
    this.#list.addEventListener("click", (event) => this.#click(event));
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#search.addEventListener("input", () => this.#filter());
    this.#toggle.addEventListener("click", () => this.toggle());
    byId("close-inspector").addEventListener("click", () => this.toggle(false));
    this.#drawer.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // this Escape shuts the drawer and stops nothing
      this.toggle(false);
    });
    byId("event-kinds").append(...KINDS.map(([name]) => this.#checkbox(name)));
    new ResizeObserver(() => frames.request(this)).observe(this.#list);
  }

  get isOpen() {
    return !this.#drawer.hidden;
  }

  /** Opens or closes the inspector. @param {boolean} [open] */
  toggle(open = !this.isOpen) {
    this.#drawer.hidden = !open;
    document.body.classList.toggle("inspecting", open);
    this.#toggle.setAttribute("aria-expanded", String(open));
    this.toggled();
    if (open) {
      this.frames.request(this);
      this.#search.focus();
    } else {
      this.#toggle.focus();
    }
  }

  /** Adds an event. @param {"up" | "down"} way @param {Record<string, any>} event */
  add(way, event) {
    this.#count += 1;
    const entry = { at: performance.now(), way, event };
    this.#entries.push(entry);
    // Trimmed in batches: moving 2,000 entries for each event would cost more than rendering it.
    if (this.#entries.length > MOST_KEPT * 1.25) this.#entries.splice(0, this.#entries.length - MOST_KEPT);
    this.#isStale = true;
    if (way === "up") this.#bargeIns.sent(event);
    else this.#bargeIns.received(event);
    if (this.isOpen) this.frames.request(this);
  }

  /** Draws an interrupt. @param {Cut} cut */
  picture(cut) {
    byId("timeline").replaceChildren(timeline(cut));
  }

  render() {
    if (!this.isOpen) return;
    const wasAtEnd = this.#list.scrollTop + this.#list.clientHeight >= this.#list.scrollHeight - 2 * ROW_PX;
    if (this.#isStale) {
      this.#isStale = false;
      this.#entries.splice(0, Math.max(0, this.#entries.length - MOST_KEPT));
      const words = this.#search.value.trim().toLowerCase();
      this.#shown = this.#entries.filter((entry) => this.#isWanted(entry, words));
      this.#rows.style.height = `${this.#shown.length * ROW_PX}px`;
      if (wasAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    const first = Math.max(0, Math.floor(this.#list.scrollTop / ROW_PX) - 4);
    const last = Math.min(this.#shown.length, first + Math.ceil(this.#list.clientHeight / ROW_PX) + 8);
    this.#rows.replaceChildren(...this.#shown.slice(first, last).map((entry, index) => this.#row(entry, first + index)));
    say(this.#total, `${this.#shown.length} of ${this.#count} events`);
  }

  /** @param {Entry} entry @param {number} index */
  #row(entry, index) {
    const { at, way, event } = entry;
    const row = el(
      "div",
      {
        class: "row", role: "option", id: `event-${index}`, "data-index": index, "data-way": way,
        "aria-selected": String(entry === this.#chosen), "aria-setsize": this.#shown.length, "aria-posinset": index + 1,
      },
      el("span", { class: "at" }, (at / 1000).toFixed(3)),
      el("span", { class: "way", "aria-label": way === "up" ? "sent" : "received" }, way === "up" ? "↑" : "↓"),
      el("span", { class: "seq" }, event.seq ? String(event.seq) : ""),
      el("span", { class: "type" }, event.type),
      el("span", { class: "gist" }, gist(event)),
    );
    row.style.top = `${index * ROW_PX}px`;
    return row;
  }

  /** @param {Entry} entry @param {string} words */
  #isWanted({ event }, words) {
    const kind = KINDS.find(([, types]) => types.test(event.type))?.[0] ?? "Session";
    if (this.#hidden.has(kind)) return false;
    return words === "" || asText(event, 0).toLowerCase().includes(words);
  }

  /** @param {string} name */
  #checkbox(name) {
    const box = el("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) this.#hidden.delete(name);
      else this.#hidden.add(name);
      this.#filter();
    });
    return el("label", {}, box, name);
  }

  #filter() {
    this.#isStale = true;
    this.frames.request(this);
  }

  /** @param {Event} event */
  #click(event) {
    const row = event.target instanceof Element ? event.target.closest(".row") : null;
    if (row !== null) this.#choose(Number(row.getAttribute("data-index")));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step === undefined || this.#shown.length === 0) return;
    event.preventDefault();
    const now = this.#chosen === null ? this.#shown.length - 1 - step : this.#shown.indexOf(this.#chosen);
    const next = Math.max(0, Math.min(this.#shown.length - 1, now + step));
    this.#choose(next);
    const top = next * ROW_PX;
    if (top < this.#list.scrollTop) this.#list.scrollTop = top;
    else if (top + ROW_PX > this.#list.scrollTop + this.#list.clientHeight) {
      this.#list.scrollTop = top + ROW_PX - this.#list.clientHeight;
    }
  }

  /** @param {number} index */
  #choose(index) {
    this.#chosen = this.#shown[index] ?? null;
    this.#list.setAttribute("aria-activedescendant", `event-${index}`);
    this.#detail.hidden = this.#chosen === null;
    if (this.#chosen !== null) say(this.#detail, asText(this.#chosen.event, 2));
    this.frames.request(this);
  }
}

/** Returns an event as JSON, without secrets and with shortened audio. @param {unknown} event @param {number} indent */
function asText(event, indent) {
  const shown = (/** @type {string} */ key, /** @type {unknown} */ value) => {
    if (SECRETS.has(key)) return "(secret)";
    return key === "audio" && typeof value === "string" && value.length > 40 ? `${value.slice(0, 40)}…` : value;
  };
  return JSON.stringify(event, shown, indent);
}

/** Returns a short summary of an event. @param {Record<string, any>} event */
function gist(event) {
  const { text, message, outcome, status, reason, name, code, arguments: written, duration_ms: ms } = event;
  const parts = [outcome, status, reason, code, name, text, message, written, ms === undefined ? "" : `${ms} ms`];
  return parts
    .filter((part) => part !== undefined && part !== null && part !== "")
    .map((part) => (typeof part === "string" ? part : JSON.stringify(part)))
    .join(" · ")
    .slice(0, 120);
}

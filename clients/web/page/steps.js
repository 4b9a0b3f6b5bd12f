/**
 * List of the steps of one lane: status, thoughts, progress and tool calls. The list is folded at first; its summary
 * shows the current step.
 *
 * @module
 */

import { Call, seconds } from "./call.js";
import { el, say } from "./dom.js";
import { icon } from "./icons.js";

/** @import { Output } from "./types.js" */

const MOST_SHOWN = 500;

export class Steps {
  #list = el("ol", { tabindex: 0, "aria-label": "Steps" });
  #now = el("span", { class: "now" });
  #count = el("span", { class: "count" });
  /** The thought that is streaming. @type {{element: HTMLElement, text: string} | null} */
  #thought = null;
  /** @type {Map<string, {bar: HTMLProgressElement, said: HTMLElement}>} */
  #bars = new Map();
  #steps = 0;
  #said = "Thinking";
  #begunAt;
  #over = false;

  /** @param {number | null} begunAt When the lane began, in milliseconds since 1970; null if unknown. */
  constructor(begunAt) {
    this.#begunAt = begunAt;
    /** @type {Map<string, Call>} */
    this.calls = new Map();
    this.element = el(
      "details",
      { class: "thinking", hidden: true },
      el("summary", {}, el("span", { class: "pulse", "aria-hidden": "true" }), this.#now, this.#count),
      this.#list,
    );
  }

  /** Adds an event; returns false for one that belongs to no step. @param {Output} event */
  apply(event) {
    switch (event.type) {
      case "status":
        this.#said = event.message;
        this.#add(event.icon ?? "dot", event.message);
        return true;
      case "thought":
        this.#think(event.text);
        return true;
      case "progress":
        this.#progress(event);
        return true;
      case "data":
        return event.name === "log" && this.#log(event.value);
      case "step.ended":
        this.#finishThought();
        return true;
      case "tool.call":
        this.#said = `Using ${event.name}`;
        applyToCall(this.#call(event.call_id), event);
        return true;
      case "tool.call.delta":
      case "tool.confirm":
      case "tool.running":
      case "tool.result":
        applyToCall(this.#call(event.call_id), event);
        return true;
      default:
        return false;
    }
  }

  /** Closes the list with a summary, and with the duration if it was measured. @param {boolean} live */
  end(live) {
    if (this.#over) return;
    this.#over = true;
    const isMeasured = live && this.#begunAt !== null;
    const took = isMeasured ? ` for ${seconds(Math.max(0, Date.now() - (this.#begunAt ?? 0)))}` : "";
    this.#said = `Worked${took}`;
    this.element.dataset.over = "";
    for (const call of this.calls.values()) {
      if (!call.over && call.state !== "background") call.state = "cancelled";
    }
    for (const { bar } of this.#bars.values()) if (!bar.hasAttribute("value")) bar.value = bar.max;
  }

  render() {
    this.element.hidden = this.#steps === 0;
    say(this.#now, this.#said);
    say(this.#count, this.#steps === 1 ? "1 step" : `${this.#steps} steps`);
    if (this.#thought !== null) say(this.#thought.element, this.#thought.text);
    for (const call of this.calls.values()) call.render();
  }

  /** @param {string} kind @param {string} text */
  #add(kind, text) {
    this.#finishThought();
    const words = el("div", { dir: "auto" }, text);
    this.#append(el("li", { class: "step" }, icon(kind), words));
    return words;
  }

  /** Adds a line of the agent's log: a text, or an object with `message` and `level`. @param {unknown} value */
  #log(value) {
    const { message, level = "info" } = /** @type {any} */ (typeof value === "string" ? { message: value } : (value ?? {}));
    if (typeof message !== "string" || message === "") return false;
    const isProblem = ["warning", "warn", "error", "critical"].includes(String(level).toLowerCase());
    this.#add(isProblem ? "warning" : "info", message).className = "log-line";
    return true;
  }

  #finishThought() {
    if (this.#thought !== null) say(this.#thought.element, this.#thought.text);
    this.#thought = null;
  }

  /** @param {HTMLElement} item */
  #append(item) {
    this.#steps += 1;
    this.#list.append(item);
    if (this.#list.children.length > MOST_SHOWN) this.#list.firstChild?.remove();
  }

  /** @param {string} text */
  #think(text) {
    if (this.#thought === null) this.#thought = { element: this.#add("thought", ""), text: "" };
    this.#thought.element.className = "thought";
    this.#thought.text += text;
  }

  /** @param {Extract<Output, {type: "progress"}>} event */
  #progress({ value, total, unit, label }) {
    const name = label ?? "";
    let known = this.#bars.get(name);
    if (known === undefined) {
      const bar = el("progress", { "aria-label": name || "Progress" });
      known = { bar, said: el("span", { class: "amount" }) };
      this.#add("clock", "").append(el("span", {}, name), bar, known.said);
      this.#bars.set(name, known);
      // Like the list: a bar that is not shown any more is not kept.
      if (this.#bars.size > MOST_SHOWN) this.#bars.delete([...this.#bars.keys()][0] ?? "");
    }
    if (total != null && total > 0) {
      known.bar.max = total;
      known.bar.value = Math.max(0, Math.min(value, total));
    }
    say(known.said, `${value}${total != null ? ` of ${total}` : ""}${unit ? ` ${unit}` : ""}`);
  }

  /** @param {string} callId */
  #call(callId) {
    let call = this.calls.get(callId);
    if (call === undefined) {
      call = new Call(callId, "");
      this.calls.set(callId, call);
      this.#finishThought();
      this.#append(call.element);
    }
    return call;
  }
}

/**
 * @param {Call} call
 * @param {Extract<Output, {type: `tool.${string}`}>} event
 */
function applyToCall(call, event) {
  switch (event.type) {
    case "tool.call":
      call.name = event.name;
      break;
    case "tool.call.delta":
      call.write(event.arguments);
      break;
    case "tool.confirm":
      call.given = event.arguments;
      call.state = "confirming";
      break;
    case "tool.running":
      call.given = event.arguments;
      call.state = "running";
      call.runsIn = event.runs_in ?? "server";
      break;
    case "tool.result":
      call.state = event.status === "running" ? "background" : event.status;
      call.output = event.output ?? null;
      call.error = (event.status !== "completed" && event.error) || null; // else a note for the model
      call.durationMs = event.duration_ms ?? 0;
  }
}

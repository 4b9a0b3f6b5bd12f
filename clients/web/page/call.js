/**
 * Tool call in the list of steps: appears with its name, and fills while its
 * arguments stream.
 *
 * @module
 */

import { readable, soFar } from "./arguments.js";
import { el, say } from "./dom.js";
import { icon } from "./icons.js";

/** @import { ToolPhase } from "./types.js" */

/** @type {Record<ToolPhase, string>} */
const SAID = {
  called: "writing",
  confirming: "asks you",
  running: "running",
  background: "in the background",
  completed: "done",
  failed: "failed",
  cancelled: "cancelled",
};
const LONGEST_SHOWN = 4000;

export class Call {
  #fields = el("dl", { class: "arguments" });
  #outcome = el("div", { class: "outcome" });
  #state = el("span", { class: "state" });
  #name = el("span", { class: "name" });
  #written = "";

  /** @param {string} callId @param {string} name */
  constructor(callId, name) {
    this.callId = callId;
    this.name = name;
    /** @type {ToolPhase} */
    this.state = "called";
    /** The complete arguments; null until they are given. @type {Record<string, unknown> | null} */
    this.given = null;
    /** Side on which the tool runs. @type {"server" | "client"} */
    this.runsIn = "server";
    /** @type {unknown} */
    this.output = null;
    /** @type {string | null} */
    this.error = null;
    this.durationMs = 0;
    this.element = el(
      "li",
      { class: "step call" },
      icon("tool"),
      el("div", {}, el("div", { class: "head" }, this.#name, this.#state), this.#fields, this.#outcome),
    );
  }

  /** Appends a piece of the arguments. @param {string} text */
  write(text) {
    this.#written += text;
  }

  /** The arguments so far. */
  get arguments() {
    return this.given ?? soFar(this.#written);
  }

  /** Whether the call is over. */
  get over() {
    return this.state === "completed" || this.state === "failed" || this.state === "cancelled";
  }

  /** Renders the call. */
  render() {
    say(this.#name, this.name || "a tool");
    const time = this.over && this.durationMs > 0 ? ` · ${seconds(this.durationMs)}` : "";
    say(this.#state, SAID[this.state] + time);
    this.element.dataset.state = this.state;
    this.#renderArguments();
    const outcome = this.error ?? (this.output === null ? "" : readable(this.output));
    say(this.#outcome, outcome.slice(0, LONGEST_SHOWN));
    this.#outcome.hidden = outcome === "";
  }

  #renderArguments() {
    const known = this.arguments;
    const entries = known === null ? [] : Object.entries(known).slice(0, 30);
    if (known === null && this.#written !== "") entries.push(["", this.#written]);
    for (const [index, [name, value]] of entries.entries()) {
      const at = 2 * index;
      while (this.#fields.children.length < at + 2) this.#fields.append(el("dt"), el("dd"));
      const [term, given] = [...this.#fields.children].slice(at, at + 2);
      if (term && given) {
        say(term, name);
        say(given, readable(value).slice(0, LONGEST_SHOWN));
      }
    }
    while (this.#fields.children.length > 2 * entries.length) this.#fields.lastChild?.remove();
  }
}

/** Returns a readable duration. @param {number} ms */
export function seconds(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

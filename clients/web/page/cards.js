/**
 * Cards of calls that concern the user: a draft to edit, and a question to answer. A card appears in the answer
 * at the position of the call.
 *
 * @module
 */

import { readable, revealed } from "./arguments.js";
import { el, say } from "./dom.js";
import { icon } from "./icons.js";

/** @import { Call } from "./call.js" */
/** @import { Desk } from "./types.js" */

let cards = 0;

/**
 * Returns the card of a call; null if it has none.
 *
 * @param {Call} call
 * @param {Desk} desk
 * @returns {Draft | Question | null}
 */
export function cardFor(call, desk) {
  if (call.name === "draft_email") return new Draft(call, desk);
  return call.state === "confirming" ? new Question(call, desk) : null;
}

/** Editor of an e-mail: fills while the model writes, and can then be edited by the user. */
export class Draft {
  #to = el("input", { type: "text", readonly: true, autocomplete: "off" });
  #subject = el("input", { type: "text", readonly: true, autocomplete: "off" });
  #body = el("textarea", { rows: 8, readonly: true });
  #state = el("span", { class: "state" });
  #use = el("button", { type: "button", class: "primary", onclick: () => this.#answer(true) }, "Use this draft");
  #drop = el("button", { type: "button", onclick: () => this.#answer(false) }, "Discard");
  #buttons = el("div", { class: "buttons", hidden: true }, this.#use, this.#drop);
  #isUsers = false;
  #answered = false;

  /** @param {Call} call @param {Desk} desk */
  constructor(call, desk) {
    this.call = call;
    this.desk = desk;
    const title = `draft-${++cards}`;
    this.element = el(
      "section",
      { class: "card draft", "aria-labelledby": title },
      el("header", {}, icon("pencil"), el("h3", { id: title }, "E-mail draft"), this.#state),
      el("label", {}, el("span", {}, "To"), this.#to),
      el("label", {}, el("span", {}, "Subject"), this.#subject),
      el("label", {}, el("span", {}, "Text"), this.#body),
      this.#buttons,
    );
  }

  /** Renders the model's text until the user can edit it. */
  render() {
    const { state } = this.call;
    if (!this.#isUsers) this.#fill();
    if (state !== "called" && !this.call.over) this.#handOver();
    const waits = state === "running" && this.call.runsIn === "client" && !this.#answered;
    this.#buttons.hidden = !waits;
    if (this.call.over || this.#answered) this.#setReadOnly(true);
    say(this.#state, this.#said(waits));
    this.element.dataset.state = this.call.state;
  }

  #fill() {
    const written = this.call.arguments ?? {};
    for (const [field, name] of /** @type {const} */ ([
      [this.#to, "to"],
      [this.#subject, "subject"],
      [this.#body, "body"],
    ])) {
      const value = written[name] === undefined ? "" : readable(written[name]);
      if (field.value !== value) field.value = value;
    }
    this.#body.scrollTop = this.#body.scrollHeight;
  }

  #handOver() {
    if (this.#isUsers) return;
    this.#isUsers = true;
    this.#setReadOnly(false);
    this.#body.scrollTop = 0;
  }

  /** @param {boolean} readOnly */
  #setReadOnly(readOnly) {
    for (const field of [this.#to, this.#subject, this.#body]) field.readOnly = readOnly;
  }

  /** @param {boolean} waits */
  #said(waits) {
    if (waits) return "yours to edit";
    if (this.call.state === "called") return "writing…";
    if (this.call.state === "cancelled") return "cut off";
    return this.call.state === "failed" ? "discarded" : "handed over";
  }

  /** @param {boolean} use */
  #answer(use) {
    this.#answered = true;
    const output = { to: this.#to.value, subject: this.#subject.value, body: this.#body.value };
    this.desk.answer(this.call.callId, use ? { output } : { error: "the user discarded the draft" });
    this.render();
  }
}

/** "May I?" */
export class Question {
  #allow = el("button", { type: "button", class: "primary", onclick: () => this.#answer(true) }, "Allow");
  #deny = el("button", { type: "button", onclick: () => this.#answer(false) }, "Deny");
  #buttons = el("div", { class: "buttons" }, this.#allow, this.#deny);
  #verdict = el("p", { class: "verdict" });
  /** @type {boolean | null} */
  #answered = null;

  /** @param {Call} call @param {Desk} desk */
  constructor(call, desk) {
    this.call = call;
    this.desk = desk;
    const title = `question-${++cards}`;
    const fields = Object.entries(call.arguments ?? {}).flatMap(([name, value]) => [
      el("dt", {}, revealed(name)),
      el("dd", {}, revealed(readable(value))),
    ]);
    this.element = el(
      "section",
      { class: "card question", role: "group", "aria-labelledby": title },
      el("header", {}, icon("question"), el("h3", { id: title }, `May I use ${revealed(call.name) || "a tool"}?`)),
      el("dl", { class: "arguments" }, ...fields),
      this.#buttons,
      this.#verdict,
    );
  }

  render() {
    const open = this.call.state === "confirming" && this.#answered === null;
    this.#buttons.hidden = !open;
    const allowed = this.#answered ?? this.call.state !== "cancelled";
    say(this.#verdict, open ? "" : allowed ? "You allowed it." : "It was not allowed.");
    this.element.dataset.state = this.call.state;
  }

  /** @param {boolean} allow */
  #answer(allow) {
    this.#answered = allow;
    this.desk.decide(this.call.callId, allow);
    this.render();
  }
}

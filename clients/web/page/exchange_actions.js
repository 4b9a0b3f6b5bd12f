/**
 * Actions below a message and an answer: copy, ask again, edit.
 *
 * @module
 */

import { el } from "./dom.js";
import { copy } from "./text/code.js";

/** @import { Desk } from "./types.js" */
/** @import { TurnView } from "./turn_view.js" */

/** Actions of an exchange. Those that replace it are shown at the last one only, by the style sheet. */
export class ExchangeActions {
  #edit = el("button", { type: "button", onclick: () => this.#open() }, "Edit");
  #again = el("button", { type: "button", class: "again", onclick: () => this.#askAgain() }, "Regenerate");
  #copy = el("button", { type: "button", onclick: () => copy(this.#copy, this.view.mainLane.said) }, "Copy");
  /** Below the message. */
  ofInput = el("div", { class: "actions of-input of-last" }, this.#edit);
  /** Below the answer. */
  ofAnswer = el("div", { class: "actions", hidden: true }, this.#copy, this.#again);

  /** @param {TurnView} view @param {HTMLElement} message @param {Desk} desk */
  constructor(view, message, desk) {
    this.view = view;
    this.message = message;
    this.desk = desk;
    this.#edit.setAttribute("aria-label", "Edit this message");
    this.#copy.setAttribute("aria-label", "Copy this answer");
  }

  /** Shows the actions of an answer that has ended. */
  offer() {
    const hasText = this.view.mainLane.said.trim() !== "";
    this.#copy.hidden = !hasText;
    this.#again.hidden = this.view.input === null || this.view.isRefused || !this.view.hasContent || this.view.ended?.status === "failed";
    this.#edit.hidden = !this.view.hasContent;
    this.ofAnswer.hidden = this.#copy.hidden && this.#again.hidden;
  }

  #askAgain() {
    if (this.view.input !== null) this.desk.replace(this.view, this.view.input);
  }

  /** Replaces the message by a field with its text. */
  #open() {
    const field = el("textarea", { rows: 3, maxlength: 65536, "aria-label": "Edited message", dir: "auto" });
    field.value = this.view.input ?? "";
    const close = () => {
      form.remove();
      this.message.hidden = this.ofInput.hidden = false;
      this.#edit.focus();
    };
    const form = el(
      "form",
      { class: "editor" },
      field,
      el(
        "div",
        { class: "buttons" },
        el("button", { type: "button", onclick: close }, "Cancel"),
        el("button", { type: "submit", class: "primary" }, "Send"),
      ),
    );
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text !== "" && !this.desk.replace(this.view, text)) field.setCustomValidity("It could not be sent. Try again in a moment.");
      field.reportValidity();
    };
    form.addEventListener("submit", submit);
    field.addEventListener("input", () => field.setCustomValidity(""));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
      if (event.key !== "Escape") return;
      event.preventDefault(); // else it would stop the answer
      close();
    });
    this.message.hidden = this.ofInput.hidden = true;
    this.message.after(form);
    field.focus();
  }
}

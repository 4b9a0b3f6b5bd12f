/**
 * Message field: Enter sends, Shift+Enter starts a new line, Escape stops the answer.
 *
 * @module
 */

import { byId, say } from "./dom.js";

export class Composer {
  #form = /** @type {HTMLFormElement} */ (byId("composer"));
  #field = /** @type {HTMLTextAreaElement} */ (byId("message"));
  #send = /** @type {HTMLButtonElement} */ (byId("send"));
  #stop = /** @type {HTMLButtonElement} */ (byId("stop"));
  #hint = byId("hint");

  /** @param {{send(text: string): boolean, hasFiles(): boolean, stop(): void}} owner `send` returns whether the text was taken. */
  constructor(owner) {
    this.owner = owner;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener("input", () => this.#fit());
    this.#field.addEventListener("keydown", (event) => {
      // Ignore an Enter that ends the composition of a character.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#submit();
      }
    });
    // React to the press, not the release, to stop immediately. A click without a press comes from a keyboard.
    this.#stop.addEventListener("pointerdown", (event) => {
      if (event.button === 0) owner.stop();
    });
    this.#stop.addEventListener("click", () => owner.stop());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented && !this.#stop.hidden) {
        event.preventDefault();
        owner.stop();
      }
    });
  }

  get text() {
    return this.#field.value;
  }

  set text(text) {
    this.#field.value = text;
    this.#fit();
  }

  focus() {
    this.#field.focus({ preventScroll: true });
  }

  /** Shows or hides the stop button. @param {boolean} speaks */
  set speaking(speaks) {
    if (this.#stop.hidden !== speaks) return;
    const hadFocus = document.activeElement === this.#stop;
    this.#stop.hidden = !speaks;
    this.#field.placeholder = speaks ? "Say something to interrupt" : "Write a message";
    say(this.#hint, speaks ? "Enter interrupts · Esc stops" : "Enter sends · Shift+Enter for a new line");
    if (hadFocus && !speaks) this.focus();
  }

  /** @param {boolean} able */
  set able(able) {
    this.#send.disabled = !able;
  }

  #submit() {
    const text = this.#field.value.trim();
    if ((text === "" && !this.owner.hasFiles()) || this.#send.disabled || !this.owner.send(text)) return;
    this.text = "";
    this.focus();
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, 200)}px`;
  }
}

/**
 * Settings of this browser: theme, text size, sound; and the actions that are needed rarely.
 *
 * @module
 */

import { byId } from "./dom.js";

const KEY = "bargein.settings";

/** @typedef {{theme?: string, size?: string, sound?: boolean}} Stored */

export class Settings {
  #dialog = /** @type {HTMLDialogElement} */ (byId("settings"));
  #size = /** @type {HTMLSelectElement} */ (byId("text-size"));
  #sound = /** @type {HTMLInputElement} */ (byId("play-sound"));
  #logOut = byId("log-out");
  #stored = stored();

  /**
   * @param {object} acts
   * @param {(on: boolean) => void} acts.sound Turns the sound of answers on or off.
   * @param {(form: "markdown" | "json") => void} acts.save Saves the conversation to a file.
   * @param {() => void} acts.logOut Forgets the credential.
   * @param {() => boolean} acts.isLoggedIn
   */
  constructor(acts) {
    const { theme = "system", size = "normal", sound = true } = this.#stored;
    for (const choice of this.#themes()) {
      choice.checked = choice.value === theme;
      choice.addEventListener("change", () => this.#set({ theme: choice.value }));
    }
    this.#size.value = size;
    this.#size.addEventListener("change", () => this.#set({ size: this.#size.value }));
    this.#sound.checked = sound;
    this.#sound.addEventListener("change", () => {
      this.#set({ sound: this.#sound.checked });
      acts.sound(this.#sound.checked);
    });
    byId("export-markdown").addEventListener("click", () => acts.save("markdown"));
    byId("export-json").addEventListener("click", () => acts.save("json"));
    this.#logOut.addEventListener("click", acts.logOut);
    byId("close-settings").addEventListener("click", () => this.#dialog.close());
    byId("open-settings").addEventListener("click", () => {
      byId("account").hidden = !acts.isLoggedIn();
      this.#dialog.showModal();
    });
    // A click beside the dialog is one on its backdrop, which belongs to the dialog.
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.#dialog.close());
  }

  /** Whether answers with sound are played. */
  get sound() {
    return this.#stored.sound ?? true;
  }

  #themes() {
    return /** @type {NodeListOf<HTMLInputElement>} */ (this.#dialog.querySelectorAll("input[name=theme]"));
  }

  /** @param {Stored} change */
  #set(change) {
    Object.assign(this.#stored, change);
    const { dataset } = document.documentElement;
    const { theme = "system", size = "normal" } = this.#stored;
    if (theme === "system") delete dataset.theme;
    else dataset.theme = theme;
    if (size === "normal") delete dataset.size;
    else dataset.size = size;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#stored));
    } catch {
      // no storage: the settings hold until the page is left
    }
  }
}

/** @returns {Stored} */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

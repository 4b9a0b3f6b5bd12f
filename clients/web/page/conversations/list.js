/**
 * The list of conversations beside the page: search, open, rename, delete.
 *
 * @module
 */

import { byId, el, say } from "../dom.js";
import { icon } from "../icons.js";

/** @import { Entry } from "./stored.js" */

const OPEN = "bargein.conversations.open";

export class ConversationList {
  #panel = byId("conversations");
  #toggle = byId("toggle-conversations");
  #list = byId("conversation-list");
  #search = /** @type {HTMLInputElement} */ (byId("conversation-search"));
  #empty = byId("no-conversations");
  /** @type {Entry[]} */
  #entries = [];
  /** @type {string | null} */
  #current = null;

  /**
   * @param {object} acts
   * @param {(id: string) => void} acts.open
   * @param {(id: string, title: string) => void} acts.rename
   * @param {(id: string) => void} acts.remove
   * @param {() => void} acts.shown The list was opened.
   */
  constructor(acts) {
    this.acts = acts;
    this.#toggle.addEventListener("click", () => this.#show(!this.isShown));
    byId("close-conversations").addEventListener("click", () => this.#show(false));
    this.#search.addEventListener("input", () => this.#render());
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      event.preventDefault();
      this.#show(false);
    });
  }

  /** Opens the list where it was open when the page was left, unless it would cover the conversation. */
  restore() {
    if (wasOpen() && innerWidth > 900) this.#show(true, false);
  }

  get isShown() {
    return !this.#panel.hidden;
  }

  /** Shows these conversations. @param {Entry[]} entries @param {string | null} current The id of the displayed one. */
  show(entries, current) {
    this.#entries = entries;
    this.#current = current;
    if (this.isShown && !this.#list.querySelector("form")) this.#render();
  }

  /** @param {boolean} shown @param {boolean} [focus] */
  #show(shown, focus = true) {
    this.#panel.hidden = !shown;
    this.#toggle.setAttribute("aria-expanded", String(shown));
    try {
      localStorage.setItem(OPEN, String(shown));
    } catch {
      // no storage: it is closed at the next start
    }
    if (shown) {
      this.#render();
      this.acts.shown();
    }
    if (focus) (shown ? this.#search : this.#toggle).focus();
  }

  #render() {
    const wanted = this.#search.value.trim().toLocaleLowerCase();
    const found = this.#entries.filter((entry) => entry.title.toLocaleLowerCase().includes(wanted));
    this.#list.replaceChildren(...found.map((entry) => this.#row(entry)));
    this.#empty.hidden = found.length > 0;
    say(this.#empty, wanted === "" ? "Conversations appear here." : "No conversation has this in its title.");
  }

  /** @param {Entry} entry */
  #row({ id, title, usedAt }) {
    const name = title || "Untitled";
    const isCurrent = id === this.#current;
    const row = el("li", { class: "conversation" });
    row.append(
      el(
        "button",
        { type: "button", class: "open", "aria-current": isCurrent ? "true" : null, onclick: () => this.acts.open(id) },
        el("span", { class: "title", dir: "auto" }, name),
        el("span", { class: "when" }, when(usedAt)),
      ),
      el("button", { type: "button", "aria-label": `Rename ${name}`, title: "Rename", onclick: () => this.#rename(row, id, title) }, icon("pencil")),
      el("button", { type: "button", "aria-label": `Delete ${name}`, title: "Delete", onclick: () => this.#askRemoval(row, id, name) }, icon("bin")),
    );
    return row;
  }

  /** @param {HTMLElement} row @param {string} id @param {string} title */
  #rename(row, id, title) {
    const field = el("input", { type: "text", value: title, maxlength: 120, "aria-label": "Title", dir: "auto" });
    const done = () => {
      const name = field.value.trim();
      if (name !== "") this.acts.rename(id, name);
      this.#render();
    };
    this.#form(row, done, field, el("button", { type: "submit" }, "Save"));
    field.focus();
    field.select();
  }

  /** @param {HTMLElement} row @param {string} id @param {string} name */
  #askRemoval(row, id, name) {
    const sure = el("button", { type: "submit", class: "danger" }, "Delete");
    const cancel = el("button", { type: "button", onclick: () => this.#render() }, "Keep");
    this.#form(row, () => this.acts.remove(id), el("p", {}, `Delete “${name}” for good?`), sure, cancel);
    sure.focus();
  }

  /** @param {HTMLElement} row @param {() => void} done @param {...Node} content */
  #form(row, done, ...content) {
    const form = el("form", {}, ...content);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.remove();
      done();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      this.#render();
      this.#search.focus();
    });
    row.replaceChildren(form);
  }
}

/** @param {number} ms In milliseconds since 1970. */
function when(ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday
    ? date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

function wasOpen() {
  try {
    return localStorage.getItem(OPEN) === "true";
  } catch {
    return false;
  }
}

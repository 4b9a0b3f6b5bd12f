/**
 * State of the connection: a word in the header, and a bar with a message or an action for the user.
 *
 * @module
 */

import { byId, el, say } from "./dom.js";
import { closing, interruption, unreachable } from "./words.js";

/** @import { ConnectionState } from "../bargein/types.js" */

export class Banner {
  #badge = byId("connection");
  #word = byId("connection-word");
  #bar = byId("banner");
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #clock;
  /** Address of the application's own login, in place of a token. @type {string | null} */
  #loginUrl = null;
  #wantsLogin = false;
  /** Hidden from screen readers, which would announce the countdown every second. */
  #said = "";

  /**
   * @param {object} acts What the bar's buttons do.
   * @param {() => void} acts.takeOver
   * @param {() => void} acts.retry
   * @param {() => void} acts.reconnect
   * @param {() => void} acts.restart
   * @param {(token: string) => void} acts.login
   */
  constructor(acts) {
    this.acts = acts;
  }

  /** The application's own login; a bar that asks for a token already links to it. @param {string | null} url */
  set loginUrl(url) {
    this.#loginUrl = url;
    if (this.#wantsLogin && url !== null) this.#linkLogin(url);
  }

  /** @param {ConnectionState} connection */
  show(connection) {
    clearInterval(this.#clock);
    this.#wantsLogin = false;
    this.#badge.dataset.state = connection.name;
    switch (connection.name) {
      case "open":
        this.#word.textContent = "Connected";
        return this.hide();
      case "connecting":
        this.#word.textContent = "Connecting";
        return this.hide();
      case "reconnecting":
        this.#word.textContent = "Reconnecting";
        return this.#countDown(connection.retryAt, connection.code);
      case "replaced":
        this.#word.textContent = "Elsewhere";
        return this.tell("This conversation goes on in another tab or window.", ["Take over here", this.acts.takeOver]);
      case "closed":
        return this.closed(connection.code ?? "closed");
    }
  }

  /**
   * Shows that there is no connection and no further attempt.
   *
   * @param {string | null} code Reason; null when no server answers.
   * @param {string} [why] Reason of an attempt that failed.
   */
  closed(code, why = "") {
    clearInterval(this.#clock);
    this.#badge.dataset.state = "closed";
    this.#word.textContent = code === null ? "Not connected" : "Closed";
    this.#wantsLogin = code === "unauthorized" || code === "wrong_token";
    if (this.#wantsLogin && this.#loginUrl !== null) this.#linkLogin(this.#loginUrl);
    else if (code === "unauthorized" || code === "wrong_token") this.#askToken(code);
    else if (code === null) this.tell(unreachable(why), ["Try again", this.acts.retry]);
    else this.tell(closing(code), ["Try again", this.acts.retry], ["New conversation", this.acts.restart]);
  }

  hide() {
    this.#bar.hidden = true;
    this.#said = "";
  }

  /**
   * Shows a message with actions.
   *
   * @param {string} words
   * @param {...[string, () => void]} actions
   */
  tell(words, ...actions) {
    const buttons = actions.map(([name, act]) => el("button", { type: "button", onclick: () => act() }, name));
    this.#bar.replaceChildren(el("p", { role: "status" }, words), ...buttons);
    this.#bar.hidden = false;
    this.#said = words;
  }

  /** @param {number} retryAt @param {string} code */
  #countDown(retryAt, code) {
    const offline = navigator.onLine === false;
    const words = offline ? "You are offline. The conversation goes on when the network is back." : interruption(code);
    if (this.#said !== words) this.tell(words, ["Try now", this.acts.reconnect]);
    if (offline) return;
    const left = el("span", { class: "countdown", "aria-hidden": "true" });
    this.#bar.querySelector(".countdown")?.remove();
    this.#bar.append(left);
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      say(left, seconds > 0 ? `Trying again in ${seconds} s` : "Trying now…");
    };
    tick();
    this.#clock = setInterval(tick, 250);
  }

  /** @param {string} url */
  #linkLogin(url) {
    this.tell("You are not logged in. Log in, and come back.", ["Try again", this.acts.retry]);
    this.#bar.append(el("a", { href: url }, "Log in"));
  }

  /** @param {string} code */
  #askToken(code) {
    const field = el("input", { type: "password", autocomplete: "off", "aria-label": "Token", placeholder: "Token" });
    const form = el("form", {}, field, el("button", { type: "submit", class: "primary" }, "Log in"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value !== "") this.acts.login(field.value);
    });
    this.tell(closing(code));
    this.#bar.append(form);
    field.focus();
  }
}

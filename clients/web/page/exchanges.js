/**
 * The exchanges of the displayed conversation, oldest first, and their places in the page.
 *
 * @module
 */

import { Journal } from "./store.js";

/** @import { TurnView } from "./turn_view.js" */

const MOST_EXCHANGES = 200;

/**
 * @typedef {object} Exchange
 * @property {TurnView} view
 * @property {Journal} journal
 * @property {string | null} inputId
 * @property {string | null} turnId
 * @property {boolean} spared Its interrupt has to wait: what comes of it is to be heard to the end.
 */

export class Exchanges {
  /** @type {Exchange[]} */
  #all = [];

  /** @param {HTMLElement} log @param {(input: string | null) => TurnView} newView */
  constructor(log, newView) {
    this.log = log;
    this.newView = newView;
  }

  get journals() {
    return this.#all.map((exchange) => exchange.journal);
  }

  /** @param {string | null | undefined} turnId @param {string | null} inputId */
  of(turnId, inputId) {
    return this.#all.findLast(
      (exchange) =>
        (turnId != null && exchange.turnId === turnId) || (inputId !== null && exchange.inputId === inputId),
    );
  }

  /** @param {TurnView} view */
  with(view) {
    return this.#all.find((exchange) => exchange.view === view);
  }

  /** Returns an exchange and all later ones. @param {Exchange} exchange */
  since(exchange) {
    return this.#all.slice(this.#all.indexOf(exchange));
  }

  /** @param {string | null} input @param {string | null} inputId @param {Journal} [journal] */
  add(input, inputId, journal = new Journal(input, inputId)) {
    /** @type {Exchange} */
    const exchange = { view: this.newView(input), journal, inputId, turnId: null, spared: false };
    this.#all.push(exchange);
    this.log.append(exchange.view.element);
    if (this.#all.length > MOST_EXCHANGES) this.#all.shift()?.view.element.remove();
    return exchange;
  }

  /** Shows exchanges that were hidden. */
  showAll() {
    for (const { view } of this.#all) view.element.hidden = false;
  }

  /** @param {(exchange: Exchange) => boolean} isDropped */
  remove(isDropped) {
    for (const { view } of this.#all.filter(isDropped)) view.element.remove();
    this.#all = this.#all.filter((exchange) => !isDropped(exchange));
  }
}

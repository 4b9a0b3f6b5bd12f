/**
 * The exchanges of the displayed conversation, oldest first, and their places in the page.
 *
 * @module
 */

import { Journal } from "./store.js";

/** @import { Chosen } from "./files.js" */
/** @import { TurnView } from "./turn_view.js" */

const MOST_EXCHANGES = 200;

/**
 * @typedef {object} Exchange
 * @property {TurnView} view
 * @property {Journal} journal
 * @property {string | null} inputId
 * @property {string | null} turnId
 * @property {Chosen[]} files The files of the message, as long as this page has their content.
 * @property {boolean} spared Its interrupt has to wait: what comes of it is to be heard to the end.
 */

export class Exchanges {
  /** @type {Exchange[]} */
  #all = [];

  /** @param {HTMLElement} log @param {(journal: Journal) => TurnView} newView */
  constructor(log, newView) {
    this.log = log;
    this.newView = newView;
  }

  get journals() {
    return this.#all.map((exchange) => exchange.journal);
  }

  get exported() {
    return this.#all.map(({ view, turnId }) => ({
      input: view.input, text: view.mainLane.said, status: view.ended?.status ?? null, turnId,
    }));
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

  /** @param {string | null} input @param {string | null} inputId @param {Chosen[]} [files] @param {Journal} [journal] */
  add(input, inputId, files = [], journal = begun(new Journal(input, inputId, files))) {
    /** @type {Exchange} */
    const exchange = { view: this.newView(journal), journal, inputId, turnId: null, spared: false, files };
    exchange.view.hasContent = files.length === journal.files.length;
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

/** @param {Journal} journal */
function begun(journal) {
  journal.begunAt = Date.now();
  return journal;
}

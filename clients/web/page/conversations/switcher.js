/**
 * Changes from one conversation to another, and keeps the list of them current.
 *
 * @module
 */

import { Journal } from "../store.js";
import { ConversationList } from "./list.js";
import { ServerConversations } from "./server.js";
import * as stored from "./stored.js";

/** @import { ResumeState } from "../../bargein/types.js" */
/** @import { Connection } from "../connection.js" */
/** @import { Kept } from "../store.js" */

const MOST_TITLE = 80;

export class Switcher {
  /** Id of the displayed conversation, once it has content. @type {string | null} */
  shownId = null;
  #server;
  #list;
  /** Ids of the conversations that the server lists. @type {Set<string>} */
  #listed = new Set();
  #opening = 0;

  /**
   * @param {object} parts
   * @param {Connection} parts.connection
   * @param {() => Kept} parts.keeping Returns the state that continues the displayed conversation.
   * @param {(resume: ResumeState | null, journals: Journal[], draft: string) => void} parts.display Displays another one.
   * @param {(words: string) => void} parts.tell
   */
  constructor({ connection, keeping, display, tell }) {
    this.connection = connection;
    this.keeping = keeping;
    this.display = display;
    this.tell = tell;
    /** Whether the server lists the conversations of authenticated users. */
    this.isListing = false;
    this.#server = new ServerConversations(() => connection.credential);
    this.#list = new ConversationList({
      open: (id) => this.#open(id),
      rename: (id, title) => this.#rename(id, title),
      remove: (id) => this.#remove(id),
      shown: () => this.refresh(),
    });
  }

  /** Shows the list as it was left. @param {boolean} isListing Whether the server lists the conversations of authenticated users. */
  start(isListing) {
    this.isListing = isListing;
    this.#list.restore();
    this.refresh();
  }

  /** The title of the displayed conversation. */
  get title() {
    const entry = stored.entries().find(({ id }) => id === this.shownId);
    return entry?.title || titleOf(this.keeping().turns) || "Conversation";
  }

  /** Stores the displayed conversation, if it has content. @param {Kept} kept */
  save(kept) {
    const id = kept.resume?.session_id;
    if (id === undefined || kept.turns.length === 0) return;
    const isNew = this.shownId !== id;
    if (isNew && this.shownId !== null) stored.move(this.shownId, id); // the server lost the first session
    this.shownId = id;
    stored.put(id, titleOf(kept.turns), kept);
    if (isNew) this.refresh();
  }

  /** Begins a conversation; the displayed one stays on the server and in the list. */
  begin() {
    this.save(this.keeping());
    this.connection.leave();
    this.#show(null, null, [], "");
  }

  /** Shows the list: what this browser knows at once, and what the server has when that is known. */
  async refresh() {
    if (!this.#list.isShown) return;
    const own = stored.entries();
    this.#list.show(own, this.shownId);
    const listed = this.isListing ? await this.#server.list() : null;
    if (listed === null) return;
    this.#listed = new Set(listed.map((each) => each.session_id));
    const known = new Map(own.map((entry) => [entry.id, entry]));
    for (const { session_id: id, title: its, named: isNamed, turns, used_at_ms: usedAt } of listed) {
      const entry = known.get(id);
      if (turns === 0 && entry === undefined) continue; // opened, and nothing was said
      const title = its || (entry?.title ?? "");
      const isOwn = entry?.isNamed && !isNamed; // the server had no store when it was named
      known.set(id, isOwn ? { ...entry, usedAt } : { id, title: isNamed ? its : title.slice(0, MOST_TITLE), isNamed, usedAt });
      if (isNamed && entry !== undefined && entry.title !== its) stored.rename(id, its); // in another browser
    }
    this.#list.show([...known.values()].sort((a, b) => b.usedAt - a.usedAt), this.shownId);
  }

  /** @param {string} id */
  async #open(id) {
    if (id === this.shownId) return;
    const turn = ++this.#opening;
    this.save(this.keeping());
    const kept = stored.state(id);
    let { resume, turns, draft } = kept ?? { resume: null, turns: [], draft: "" };
    // Another browser may have had the conversation meanwhile, which changed its token.
    const opened = this.#listed.has(id) ? await this.#server.open(id) : null;
    if (turn !== this.#opening) return; // the user has chosen another one meanwhile
    if (opened !== null && resume !== null && resume.cursor.epoch === opened.resume.cursor.epoch) {
      resume = { ...resume, token: opened.resume.token };
    } else if (opened !== null) {
      resume = opened.resume;
      turns = opened.inputs.map(({ input_id, text, files }) => {
        return new Journal([text, ...files.map((name) => `[${name}]`)].join("\n").trim(), input_id);
      });
    }
    if (resume === null) return this.tell("This conversation cannot be opened here: the server or this browser has forgotten it.");
    this.connection.leave();
    this.#show(id, resume, turns, draft);
  }

  /** @param {string | null} id @param {ResumeState | null} resume @param {Journal[]} journals @param {string} draft */
  #show(id, resume, journals, draft) {
    this.shownId = id;
    this.display(resume, journals, draft);
    this.refresh();
  }

  /** @param {string} id @param {string} title */
  async #rename(id, title) {
    if (this.isListing && !this.#listed.has(id)) await this.refresh(); // it began after the list was read
    // Without a user the names of this browser are the only ones.
    if (!this.#listed.has(id) || (await this.#server.rename(id, title))) stored.rename(id, title);
    else this.tell("The title could not be stored. Try again in a moment.");
    this.refresh();
  }

  /** @param {string} id */
  async #remove(id) {
    if (id === this.shownId) {
      this.connection.close();
      stored.remove(id);
      this.#show(null, null, [], "");
      return;
    }
    const isGone = await this.#server.remove(id, stored.state(id)?.resume?.token);
    if (isGone) stored.remove(id);
    else this.tell("The conversation could not be deleted. Try again in a moment.");
    this.refresh();
  }
}

/** Returns the title of a conversation: the start of its first message. @param {Journal[]} journals */
function titleOf(journals) {
  const first = journals.find((journal) => journal.input !== null)?.input ?? "";
  const line = first.trim().replace(/\s+/g, " ");
  return line.length <= MOST_TITLE ? line : `${line.slice(0, MOST_TITLE - 1)}…`;
}

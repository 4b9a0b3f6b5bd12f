/**
 * The session of the displayed conversation: opens it, resumes it, leaves it, and holds the credential of this tab.
 *
 * @module
 */

import { connect, ConnectError, SessionClosed } from "../bargein/index.js";
import { INPUT } from "./microphone.js";

/** @import { ConnectionState, ResumeState } from "../bargein/types.js" */
/** @import { ClientSession } from "../bargein/index.js" */
/** @import { Banner } from "./banner.js" */
/** @import { Conversation } from "./conversation.js" */
/** @import { Inspector } from "./inspector.js" */
/** @import { Microphone } from "./microphone.js" */

/** The tab's credential; `sessionStorage` ends with the tab. */
const CREDENTIAL = "bargein.credential";

export class Connection {
  /** The open session; null when there is none. @type {ClientSession | null} */
  session = null;
  /** Resume state of a session that is no longer open. @type {ResumeState | null} */
  left = null;
  /** @type {string | undefined} */
  credential = storedCredential();

  /**
   * @param {object} parts
   * @param {Conversation} parts.conversation
   * @param {Inspector} parts.inspector
   * @param {Banner} parts.banner
   * @param {Microphone} parts.microphone
   * @param {() => void} parts.changed A session was opened or is over.
   * @param {() => void} parts.save The state should be stored.
   */
  constructor({ conversation, inspector, banner, microphone, changed, save }) {
    this.conversation = conversation;
    this.inspector = inspector;
    this.banner = banner;
    this.microphone = microphone;
    this.changed = changed;
    this.save = save;
  }

  /** @param {ResumeState | null} resume */
  async open(resume) {
    this.left = resume;
    this.banner.show({ name: "connecting" });
    /** @type {ClientSession | null} */
    let mine = null;
    try {
      await connect("v1/session", {
        resume,
        client: { name: "bargein-page" },
        audio: { input: INPUT, output: { encoding: "pcm16", rate: 24_000 } },
        ...(this.credential === undefined ? {} : { token: this.credential }),
        onSession: (made) => {
          this.session = mine = made;
          made.on("event", (event) => this.inspector.add("down", event));
          made.on("sent", (event) => this.inspector.add("up", event));
          // A session that was replaced by another conversation still changes its state.
          made.on("state", (state) => made === this.session && this.#stateChanged(state));
          made.on("client.restarted", () => {
            this.banner.tell("The server has lost this conversation. Send a message to continue with a new one.", ["OK", () => this.banner.hide()]);
          });
          this.conversation.use(made);
          this.microphone.use(made);
        },
      });
    } catch (error) {
      if (mine !== this.session && this.session !== null) return;
      this.#end();
      // The end of an open session was shown by a change of its state.
      if (error instanceof ConnectError) this.#refused(error.code?.name ?? null, error.why);
      else if (!(error instanceof SessionClosed)) this.banner.closed(null);
    }
  }

  /** Leaves the session on the server, so that it can be resumed; one without content is closed for good. */
  leave() {
    const session = this.session;
    this.session = this.left = null;
    this.microphone.use(null);
    if (this.conversation.journals.length > 0) session?.leave();
    else session?.close().catch(() => {});
  }

  /** Ends the session for good. */
  close() {
    this.session?.close().catch(() => {});
    this.session = this.left = null;
    this.microphone.use(null);
  }

  /** Returns the state that continues the session; null when there is none. */
  resumeState() {
    this.left = this.session?.resumeState() ?? this.left;
    return this.left;
  }

  /** @param {string | undefined} given */
  use(given) {
    this.credential = given;
    try {
      if (given === undefined) sessionStorage.removeItem(CREDENTIAL);
      else sessionStorage.setItem(CREDENTIAL, given);
    } catch {
      // no storage: the credential holds until the page is left
    }
  }

  /** @param {string | null} code @param {string} why */
  #refused(code, why) {
    const given = this.credential !== undefined;
    if (code === "unauthorized") this.use(undefined);
    this.banner.closed(code === "unauthorized" && given ? "wrong_token" : code, why);
  }

  /** @param {ConnectionState} state */
  #stateChanged(state) {
    this.banner.show(state);
    this.changed();
    if (state.name === "replaced" || state.name === "closed") this.#end();
    else if (state.name !== "connecting") this.save();
  }

  /** Drops a session that is over; its resume state serves to take it over again. */
  #end() {
    this.session = null;
    this.microphone.use(null);
    this.changed();
  }
}

function storedCredential() {
  try {
    return sessionStorage.getItem(CREDENTIAL) ?? undefined;
  } catch {
    return undefined;
  }
}

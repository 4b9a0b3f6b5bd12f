/**
 * Plays the audio of turns and counts the played samples.
 *
 * Audio is generated faster than it is played, so a turn may have ended on the server while its audio is still
 * playing. Until then the audio can be stopped, and the playback is reported while it plays and when it stops
 * (section 6 of the protocol).
 *
 * @module
 */

/** @import { PlaybackReport, TurnEvent } from "../bargein/types.js" */
/** @import { Speaker } from "./conversation.js" */
/** @import { TurnView } from "./turn_view.js" */

const REPORT_MS = 500;
const MOST_TURNS = 32;
/** Sample rates of speech; an event has its samples and its duration in rounded milliseconds. */
const RATES = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

/**
 * Played audio of a turn, in samples.
 *
 * @typedef {object} Account
 * @property {TurnView} view
 * @property {number} rate
 * @property {number} sent
 * @property {number} played
 * @property {number} dropped
 * @property {boolean} isHushed What comes of it now is not played any more.
 */

/** @implements {Speaker} */
export class Sound {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {Promise<AudioWorkletNode> | null} */
  #player = null;
  /** @type {Map<string, Account>} */
  #accounts = new Map();
  /** @type {string | null} */
  #playing = null;
  #reportedAt = 0;

  /**
   * @param {object} owner
   * @param {(turnId: string, report: PlaybackReport) => void} owner.report
   * @param {() => void} owner.changed Whether it plays has changed, or whether there is anything to play.
   */
  constructor(owner) {
    this.owner = owner;
    /** Whether the user wants sound. */
    this.isOn = true;
    /** Whether a turn has had audio. */
    this.isWanted = false;
  }

  /** Whether audio is playing, including that of a turn that has ended on the server. */
  get isSpeaking() {
    return this.#playing !== null;
  }

  /** Whether the browser allows playing, which needs a click or a key first. */
  get isAllowed() {
    return this.#context === null || this.#context.state === "running";
  }

  /** Turns sound on or off; to be called from a click. @param {boolean} on */
  turn(on) {
    this.isOn = on;
    if (on) this.#context?.resume().then(() => this.owner.changed());
    else this.hush();
    this.owner.changed();
  }

  /** @param {string} turnId @param {TurnEvent} event @param {TurnView} view */
  take(turnId, event, view) {
    if (event.type === "audio.delta" && !event.source && event.audio !== "") {
      this.isWanted = true;
      if (this.isOn) this.#play(turnId, event, view);
      else this.owner.changed();
    } else if (event.type === "turn.ended" && this.#accounts.has(turnId)) {
      if (event.status === "interrupted" && turnId === this.#playing) this.hush();
      else this.#tell({ type: "end", turn: turnId });
    } else if (turnId === this.#playing && (event.type === "turn.held" || event.type === "turn.resumed")) {
      this.pause(event.type === "turn.held");
    }
  }

  /** @param {boolean} isHeld */
  pause(isHeld) {
    if (this.#playing !== null) this.#tell({ type: isHeld ? "pause" : "go" });
  }

  /** Stops the output from the next block on. */
  hush() {
    const account = this.#playing === null ? undefined : this.#accounts.get(this.#playing);
    if (account === undefined || account.isHushed) return;
    account.isHushed = true;
    this.#tell({ type: "flush" });
  }

  /** @param {string} turnId @returns {PlaybackReport | null} */
  played(turnId) {
    const account = this.#accounts.get(turnId);
    return account === undefined ? null : { audioMs: milliseconds(account) };
  }

  /** @param {string} turnId @param {Extract<TurnEvent, {type: "audio.delta"}>} event @param {TurnView} view */
  #play(turnId, { audio, duration_ms }, view) {
    const samples = decoded(audio);
    let account = this.#accounts.get(turnId);
    if (account === undefined) {
      account = { view, rate: rateOf(samples.length, duration_ms), sent: 0, played: 0, dropped: 0, isHushed: false };
      this.#accounts.set(turnId, account);
      if (this.#accounts.size > MOST_TURNS) this.#accounts.delete(/** @type {string} */ (this.#accounts.keys().next().value));
      view.mainLane.playedTo(0);
      this.#playing = turnId;
      this.#open(account.rate);
      this.owner.changed();
    }
    account.sent += samples.length;
    if (account.isHushed) account.dropped += samples.length;
    else this.#tell({ type: "play", turn: turnId, samples });
    note(account);
  }

  /** @param {number} rate */
  #open(rate) {
    if (this.#context?.sampleRate === rate) return;
    this.#context?.close();
    const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    this.#context = context;
    context.addEventListener("statechange", () => this.owner.changed());
    this.#player = context.audioWorklet.addModule(new URL("player.worklet.js", import.meta.url)).then(() => {
      const node = new AudioWorkletNode(context, "bargein-player", { numberOfInputs: 0, outputChannelCount: [1] });
      node.port.onmessage = ({ data }) => this.#heard(data);
      node.connect(context.destination);
      return node;
    });
  }

  /** @param {{type: string, turn?: string, samples?: Float32Array}} message */
  #tell(message) {
    // Through the promise, so that messages keep their order while the player is being created.
    this.#player?.then((node) => node.port.postMessage(message, message.samples ? [message.samples.buffer] : []));
  }

  /** @param {{turn: string, played: number, dropped: number, final: boolean}} news */
  #heard({ turn, played, dropped, final }) {
    const account = this.#accounts.get(turn);
    if (account === undefined) return;
    account.played = played;
    const { view } = account;
    account.dropped += dropped;
    note(account);
    if (final) {
      if (this.#playing === turn) this.#playing = null;
      view.soundEnded(milliseconds(account), account.dropped > 0);
      this.owner.changed();
    } else {
      view.soundPlayed(milliseconds(account));
    }
    if (!final && performance.now() - this.#reportedAt < REPORT_MS) return;
    this.#reportedAt = performance.now();
    this.owner.report(turn, { audioMs: milliseconds(account) });
  }
}

/** Publishes the account for tests. @param {Account} account */
function note({ view, sent, played, dropped }) {
  view.element.dataset.sound = `${sent} samples came, ${played} were played, ${dropped} dropped`;
}

/** @param {Account} account */
function milliseconds({ played, rate }) {
  return Math.floor((played * 1000) / rate);
}

/** Converts little-endian PCM16 for the audio thread. @param {string} base64 */
function decoded(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const view = new DataView(bytes.buffer);
  const samples = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32_768;
  return samples;
}

/** @param {number} samples @param {number} ms */
function rateOf(samples, ms) {
  const rate = ms > 0 ? (samples * 1000) / ms : 24_000;
  return RATES.reduce((best, known) => (Math.abs(known - rate) < Math.abs(best - rate) ? known : best));
}

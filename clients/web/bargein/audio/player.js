/**
 * Plays the audio of turns and counts the played samples.
 *
 * Audio is generated faster than it is played, so a turn may have ended on the server while its audio is still
 * playing. Until then the audio can be stopped, and the playback is reported while it plays and when it stops
 * (section 6 of the protocol).
 *
 * @module
 */

/** @import { ClientSession } from "../session.js" */
/** @import { ClientTurn } from "../turn.js" */
/** @import { SessionEvents, TurnEvent } from "../types.js" */

const REPORT_MS = 100;
const MOST_TURNS = 32;
/** Sample rates of speech; an event has its samples and its duration in rounded milliseconds. */
const RATES = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

/**
 * Playback of a turn.
 *
 * @typedef {object} Played
 * @property {number} audioMs Audio that was played, in milliseconds.
 * @property {number} sent Samples that came.
 * @property {number} played Samples that were played.
 * @property {number} dropped Samples that were flushed.
 * @property {boolean} paused Whether it was just paused.
 * @property {boolean} final Whether the turn is silent from now on.
 */

/**
 * Playback of a turn, in samples.
 *
 * @typedef {object} Account
 * @property {number} rate
 * @property {number} sent
 * @property {number} played
 * @property {number} dropped
 * @property {boolean} isHushed Audio that comes now is not played any more.
 */

/**
 * Loudspeaker of a page: plays PCM16 turn by turn in an audio worklet.
 *
 * It falls silent within one block of 128 samples after `flush`, `pause`, a hold or an interrupt of an attached session.
 * Browsers play only after a click or a key: call `resume` in its listener.
 */
export class AudioPlayer {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {Promise<AudioWorkletNode> | null} */
  #node = null;
  /** @type {Map<string, Account>} */
  #accounts = new Map();
  /** @type {string | null} */
  #playing = null;
  /** Functions that report the playback of attached sessions. @type {Set<(turnId: string, played: Played) => void>} */
  #reporters = new Set();
  #onPlayed;
  #onChange;
  #destination;

  /**
   * @param {object} [options]
   * @param {(turnId: string, played: Played) => void} [options.onPlayed] Called while a turn plays, about 20 times a
   *   second, and once when it is silent.
   * @param {() => void} [options.onChange] Called when `playing` or `isAllowed` has changed.
   * @param {(context: AudioContext) => AudioNode} [options.destination] Returns the node to play into; the loudspeaker
   *   when absent.
   */
  constructor({ onPlayed = () => {}, onChange = () => {}, destination = (context) => context.destination } = {}) {
    this.#onPlayed = onPlayed;
    this.#onChange = onChange;
    this.#destination = destination;
  }

  /** Id of the turn that sounds, also after its end on the server; null in silence. */
  get playing() {
    return this.#playing;
  }

  /** Whether the browser allows playing. */
  get isAllowed() {
    return this.#context === null || this.#context.state === "running";
  }

  /** Plays what waits for a click or a key; to be called from its listener. */
  async resume() {
    await this.#context?.resume();
  }

  /** Audio of a turn that was played, in milliseconds; null for a turn without audio. @param {string} turnId */
  playedMs(turnId) {
    const account = this.#accounts.get(turnId);
    return account === undefined ? null : milliseconds(account);
  }

  /**
   * Plays the audio of a session's turns from now on, and reports the playback.
   *
   * Audio of lanes beside the main one is left out. A held turn pauses. An interrupted one is flushed: by the server
   * with its `turn.ended`, by this page as soon as the interrupt is sent.
   *
   * @param {ClientSession} session Its `connect` must have asked for `audio.output` in `pcm16`.
   * @returns {() => void} A function that ends this, and flushes.
   */
  attach(session) {
    /** @type {Map<string, {turn: ClientTurn, at: number}>} */
    const turns = new Map();
    const report = (/** @type {string} */ turnId, /** @type {Played} */ { audioMs, paused, final }) => {
      const own = turns.get(turnId);
      if (own === undefined || (!final && !paused && performance.now() - own.at < REPORT_MS)) return;
      own.at = performance.now();
      try {
        own.turn.reportPlayback({ audioMs });
      } catch {
        // The session is over.
      }
    };
    this.#reporters.add(report);
    const stops = [
      session.on("*", (event) => {
        if (event.type === "audio.delta" && !event.source && event.audio !== "" && !turns.has(event.turn_id)) {
          const turn = session.turns.find(({ id }) => id === event.turn_id);
          if (turn !== undefined) turns.set(event.turn_id, { turn, at: 0 });
          if (turns.size > MOST_TURNS) turns.delete(/** @type {string} */ (turns.keys().next().value));
        }
        this.take(event, session.audio?.output?.rate);
      }),
      session.on("sent", (event) => {
        if (event.type !== "interrupt" || this.#playing === null) return;
        const turn = turns.get(this.#playing)?.turn;
        if (event.turn_id === this.#playing || (turn !== undefined && event.input_id === turn.inputId)) this.flush();
      }),
    ];
    return () => {
      for (const stop of stops) stop();
      if (this.#playing !== null && turns.has(this.#playing)) this.flush();
      this.#reporters.delete(report);
    };
  }

  /**
   * Takes an event of a session, in its order; for players that are not attached.
   *
   * @param {SessionEvents["*"] | TurnEvent} event
   * @param {number} [rate] Samples per second; found from the event's duration when absent.
   */
  take(event, rate) {
    if (event.type === "audio.delta") {
      if (event.source || event.audio === "") return;
      const samples = decoded(event.audio);
      this.play(event.turn_id, samples, rate ?? rateOf(samples.length, event.duration_ms));
    } else if (event.type === "turn.ended" && this.#accounts.has(event.turn_id)) {
      if (event.status === "interrupted" && event.turn_id === this.#playing) this.flush();
      else this.end(event.turn_id);
    } else if ((event.type === "turn.held" || event.type === "turn.resumed") && event.turn_id === this.#playing) {
      this.pause(event.type === "turn.held");
    }
  }

  /**
   * Plays samples of a turn after those that came before; another turn than the one that plays takes its place.
   *
   * @param {string} turnId
   * @param {Float32Array} samples Mono samples from -1 to 1; the player owns them from now on.
   * @param {number} rate Samples per second, the same for a whole turn.
   */
  play(turnId, samples, rate) {
    let account = this.#accounts.get(turnId);
    if (account === undefined) {
      account = { rate, sent: 0, played: 0, dropped: 0, isHushed: false };
      this.#accounts.set(turnId, account);
      if (this.#accounts.size > MOST_TURNS) this.#accounts.delete(/** @type {string} */ (this.#accounts.keys().next().value));
      this.#playing = turnId;
      this.#open(account.rate);
      this.#onChange();
    }
    account.sent += samples.length;
    if (account.isHushed) account.dropped += samples.length;
    else this.#post({ type: "play", turn: turnId, samples });
  }

  /** Marks the end of a turn's audio, after which it is silent. @param {string} turnId */
  end(turnId) {
    if (this.#accounts.has(turnId)) this.#post({ type: "end", turn: turnId });
  }

  /** Pauses the turn that plays, or goes on where it paused. @param {boolean} isHeld */
  pause(isHeld) {
    if (this.#playing !== null) this.#post({ type: isHeld ? "pause" : "go" });
  }

  /** Stops the turn that plays from the next block on, and drops the rest of its audio. */
  flush() {
    const account = this.#playing === null ? undefined : this.#accounts.get(this.#playing);
    if (account === undefined || account.isHushed) return;
    account.isHushed = true;
    this.#post({ type: "flush" });
  }

  /** Stops, and releases the loudspeaker. */
  close() {
    this.#context?.close();
    this.#context = this.#node = null;
    this.#playing = null;
    this.#onChange();
  }

  /** @param {number} rate */
  #open(rate) {
    if (this.#context?.sampleRate === rate) return;
    this.#context?.close();
    const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    this.#context = context;
    context.addEventListener("statechange", () => this.#onChange());
    this.#node = context.audioWorklet.addModule(new URL("player.worklet.js", import.meta.url)).then(() => {
      const node = new AudioWorkletNode(context, "bargein-player", { numberOfInputs: 0, outputChannelCount: [1] });
      node.port.onmessage = ({ data }) => this.#heard(data);
      node.connect(this.#destination(context));
      return node;
    });
  }

  /** @param {{type: string, turn?: string, samples?: Float32Array}} message */
  #post(message) {
    // Through the promise, so that messages keep their order while the worklet is being created.
    this.#node?.then((node) => node.port.postMessage(message, message.samples ? [message.samples.buffer] : []));
  }

  /** @param {{turn: string, played: number, dropped: number, final: boolean, paused?: boolean}} news */
  #heard({ turn, played, dropped, final, paused = false }) {
    const account = this.#accounts.get(turn);
    if (account === undefined) return;
    account.played = played;
    account.dropped += dropped;
    if (final && this.#playing === turn) this.#playing = null;
    const report = { audioMs: milliseconds(account), sent: account.sent, played, dropped: account.dropped, paused, final };
    for (const reporter of this.#reporters) reporter(turn, report);
    this.#onPlayed(turn, report);
    if (final) this.#onChange();
  }
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

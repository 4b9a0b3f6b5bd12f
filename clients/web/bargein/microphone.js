/**
 * Input audio of a session: the user's speech, in pieces that the server takes.
 *
 * @module
 */

/** @import { AudioFormat, SessionAudio } from "./types.js" */
/** @import { ClientSession } from "./session.js" */
/** @import { SendQueue } from "./send_queue.js" */

const PIECE_MS = 20;
/** Sound that waits for a slow connection; more is dropped, because late speech misleads the server. */
const MAX_QUEUED_MS = 2000;
/** Bytes of a sample by encoding. @type {Record<string, number>} */
const SAMPLE_BYTES = { pcm16: 2, mulaw: 1, alaw: 1 };

/** Input audio on the current channel, without I/O. */
export class AudioInput {
  #queue;
  #tail = new Uint8Array();

  /**
   * @param {SendQueue} queue Takes the events.
   * @param {SessionAudio | null} asked The audio that the application asks for.
   */
  constructor(queue, asked) {
    this.#queue = queue;
    /** The audio that the application asks for; null for none. */
    this.asked = asked;
    /** The audio that the server grants on the current channel; null without any. @type {SessionAudio | null} */
    this.granted = null;
    /** Bytes that were dropped: offline, or because the connection was too slow. */
    this.dropped = 0;
  }

  /** Format of the sound that may be sent now; null when the server takes none. @returns {AudioFormat | null} */
  get format() {
    const [granted, asked] = [this.granted?.input, this.asked?.input];
    if (granted == null || asked == null || granted.rate !== asked.rate) return null;
    return granted.encoding === (asked.encoding ?? "pcm16") ? granted : null;
  }

  /** Begins on a channel; sound that was meant for an earlier one is dropped. @param {SessionAudio | null} granted */
  open(granted) {
    this.close();
    this.granted = granted;
  }

  /** Ends the use of a channel. */
  close() {
    this.granted = null;
    this.dropped += this.#tail.length;
    this.#tail = new Uint8Array();
  }

  /** Sends sound in pieces of 20 ms; a shorter rest waits for more. Returns false when sound was dropped. @param {Uint8Array} sound */
  send(sound) {
    const format = this.format;
    if (format === null || !this.#queue.accepts) {
      this.dropped += sound.length;
      return false;
    }
    const all = joined(this.#tail, sound);
    const size = Math.max(1, Math.floor((format.rate * PIECE_MS) / 1000) * sampleBytes(format));
    const whole = all.length - (all.length % size);
    this.#tail = all.slice(whole);
    return this.#put(all.subarray(0, whole), size);
  }

  /** Sends the rest of the sound. */
  flush() {
    const format = this.format;
    const whole = format === null ? 0 : this.#tail.length - (this.#tail.length % sampleBytes(format));
    this.#put(this.#tail.subarray(0, whole), Math.max(1, whole));
    this.#tail = new Uint8Array();
  }

  /** Takes the speech back that no turn was asked for with. */
  clear() {
    this.#tail = new Uint8Array();
    if (this.format !== null && this.#queue.accepts) this.#queue.append({ type: "input.clear" });
  }

  /** @param {Uint8Array} sound @param {number} size */
  #put(sound, size) {
    for (let start = 0; start < sound.length; start += size) {
      if (this.#queue.audioEvents >= MAX_QUEUED_MS / PIECE_MS) {
        this.dropped += sound.length - start;
        return false;
      }
      this.#queue.append({ type: "input.audio", audio: base64(sound.subarray(start, start + size)) });
    }
    return true;
  }
}

/** Input audio of a `ClientSession`. Nothing is kept for later: sound that cannot be sent now is dropped. */
export class Microphone {
  #session;

  /** @param {ClientSession} session */
  constructor(session) {
    this.#session = session;
  }

  /** Format of the sound to send; null while the server takes none. */
  get format() {
    return this.#session._audio.format;
  }

  /** Whether the server detects the end of speech; otherwise `commit` ends it. */
  get detects() {
    return (this.#session._audio.granted?.turn_detection?.type ?? "server") === "server";
  }

  /**
   * Sends sound in whole samples of `format`, as long as you like. It goes out in pieces of 20 ms. Do not send sound
   * faster than it can be said, apart from 5 s in advance. Throws `SessionClosed`.
   *
   * @param {Uint8Array | Int16Array} sound Bytes, or samples of PCM16.
   * @returns {boolean} False when sound was dropped, because there is no connection, it is too slow, or the server takes
   *   none.
   */
  send(sound) {
    return this.#session._sendSound(sound instanceof Int16Array ? littleEndian(sound) : sound);
  }

  /**
   * Ends the speech and asks for a turn with it. Its `accepted()` rejects with an `InputRejected` with the code
   * `no_speech` when nothing was said. Throws `TooManyPending` or `SessionClosed`; then nothing was sent.
   */
  commit() {
    return this.#session._commit();
  }

  /** Forgets the speech so far. Throws `SessionClosed`. */
  clear() {
    this.#session._act((core) => core.audio.clear());
  }
}

/** @param {AudioFormat} format */
function sampleBytes({ encoding }) {
  return SAMPLE_BYTES[encoding ?? "pcm16"] ?? 1;
}

/** @param {Uint8Array} first @param {Uint8Array} second */
function joined(first, second) {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

/** @param {Int16Array} samples */
function littleEndian(samples) {
  const view = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, i) => view.setInt16(2 * i, sample, true));
  return new Uint8Array(view.buffer);
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}

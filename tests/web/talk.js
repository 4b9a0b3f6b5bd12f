/** The vocabulary of the tests of the JavaScript client: a core that is played, and pictures without defaults. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { ClientCore } from "../../clients/web/bargein/core.js";
import { ServerViolation, TooLarge, TooManyPending } from "../../clients/web/bargein/errors.js";

/** Reads a file of `protocol/` as JSON. */
export function protocolFile(name) {
  return JSON.parse(readFileSync(new URL(`../../protocol/${name}`, import.meta.url), "utf-8"));
}

/** What the wire would say of a fold: without what is not set. Turns may have an empty lane. */
export function lean(fold) {
  const lanes = Object.entries(fold.lanes).map(([source, lane]) => [
    source,
    { ...unset(lane), ...(lane.tools.length ? { tools: lane.tools.map(unset) } : {}), ...spans(lane), ...progress(lane) },
  ]);
  return { ...unset(fold), lanes: Object.fromEntries(lanes) };
}

function spans({ audio }) {
  return audio.length ? { audio: audio.map(({ start_ms, duration_ms, text }) => ({ start_ms, duration_ms, ...unset({ text }) })) } : {};
}

function progress({ progress }) {
  return progress ? { progress: { value: progress.value, ...unset({ ...progress, value: null }) } } : {};
}

function unset(fields) {
  const isSet = (value, key) =>
    !(value === null || value === "" || value === false || value === 0 || (key === "state" && value === "called")) &&
    !(typeof value === "object" && Object.keys(value).length === 0 && key !== "given" && key !== "output");
  return plain(Object.fromEntries(Object.entries(fields).filter(([key, value]) => isSet(value, key))));
}

/** Takes so many events of an inbox, all when no count is given, as they would look on the wire. */
export function taken(inbox, count = Infinity) {
  const events = [];
  let event;
  while (events.length < count && (event = inbox.take()) !== undefined) {
    events.push(event.type === "client.turn_snapshot" ? { ...event, state: lean(event.state) } : event);
  }
  return events;
}

/** An object as JSON would bring it back: with an ordinary prototype and nothing undefined. */
export function plain(value) {
  return JSON.parse(JSON.stringify(value));
}

/** Does and checks what the steps of a conversation say; a step is one name with its argument. */
export class Player {
  core = new ClientCore();
  everything = this.core.turns.subscribe();
  turns = new Map();

  play(step) {
    const [[name, argument]] = Object.entries(step);
    this[name](argument);
  }

  // --- the sound -------------------------------------------------------------------------------------

  audio(asked) {
    this.core = new ClientCore({ audio: asked });
    this.everything = this.core.turns.subscribe();
  }
  speaks(sound) {
    this.core.audio.send(new Uint8Array(Buffer.from(sound, "base64")));
  }
  clears() {
    this.core.audio.clear();
  }

  // --- the line --------------------------------------------------------------------------------------

  attach() {
    this.core.attach();
  }
  detach() {
    this.core.detach();
  }
  receives(events) {
    for (const event of events) this.core.receive(event);
  }
  violates(event) {
    assert.throws(() => this.core.receive(event), ServerViolation);
  }
  sends(events) {
    assert.deepEqual(this.core.outgoing(), events);
  }

  // --- the application -------------------------------------------------------------------------------

  asks(event) {
    this.turns.set(event.id, this.core.sendInput(event));
  }
  interrupts({ turn, id }) {
    this.core.interrupt({ type: "interrupt", id }, this.turns.get(turn));
  }
  rewinds({ id, turn_id }) {
    this.core.rewind({ type: "session.rewind", id, turn_id });
  }
  holds(turn) {
    this.core.hold(this.turns.get(turn));
  }
  resumes(turn) {
    this.core.resume(this.turns.get(turn));
  }
  plays({ turn, ...played }) {
    this.core.playback(this.turns.get(turn), played);
  }
  updates(metadata) {
    this.core.update(metadata);
  }
  answers(event) {
    this.core.answerTool(event);
  }
  refuses(step) {
    assert.throws(
      () => this.play(step),
      (error) => error instanceof TooManyPending || error instanceof TooLarge,
    );
  }

  // --- what comes out --------------------------------------------------------------------------------

  reads({ turn, count, events }) {
    const read = taken(this.turns.get(turn).inbox, count);
    if (events !== undefined) assert.deepEqual(read, events);
  }
  hears(events) {
    assert.deepEqual(taken(this.everything), events);
  }
  hears_all() {
    taken(this.everything);
  }
  subscribe() {
    this.everything = this.core.turns.subscribe();
  }
  outcomes(expected) {
    assert.deepEqual(
      this.core.outcomes().map(({ id, event }) => [id, event]),
      expected,
    );
  }
  text({ turn, is }) {
    assert.equal(this.turns.get(turn).fold.text, is);
  }
  open(inputs) {
    const open = [...this.turns].filter(([, turn]) => !turn.over).map(([input]) => input);
    assert.deepEqual(open, inputs);
    assert.equal(this.core.turns.open.length, inputs.length);
    assert.equal(this.core.turns.current?.inputId ?? null, inputs[0] ?? null);
  }
  cursor(seq) {
    assert.equal(this.core.lastSeq, seq);
  }
  reconnect_after_ms(delay) {
    assert.equal(this.core.reconnectAfterMs, delay);
  }
}

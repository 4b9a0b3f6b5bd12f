/**
 * Gives inputs to the JavaScript client: `node replay.js streams|cores|frames FILE`, a line of JSON for each input. Ends
 * with 1 at the first one that fails, and prints its index and the error as JSON.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { decode } from "../../clients/web/bargein/codec.js";
import { ClientCore } from "../../clients/web/bargein/core.js";
import { ServerViolation, TooLarge, TooManyPending } from "../../clients/web/bargein/errors.js";
import { EventStreamParser } from "../../clients/web/bargein/event_stream_parser.js";

const BOUNDS = { events: 40, size: 4000 };

/** An event stream in pieces has the events of the reference. */
function stream({ pieces, events }) {
  const parser = new EventStreamParser();
  const decoder = new TextDecoder();
  let [parsed, fed] = [[], 0];
  for (const piece of pieces) {
    const text = decoder.decode(Buffer.from(piece, "base64"), { stream: true });
    fed += text.length;
    for (const { kind, data } of parser.feed(text)) parsed.push([kind, data]);
    assert.ok(parser.size <= fed);
  }
  assert.deepEqual(parsed, events);
}

/** The core behaves like that of Python in a conversation with a server that sends anything. */
class Played {
  core = new ClientCore({ bounds: BOUNDS });
  everything = this.core.turns.subscribe();
  turns = new Map();

  play([name, ...given]) {
    let result;
    try {
      result = this[name](...given) || "done";
    } catch (error) {
      if (![ServerViolation, TooManyPending, TooLarge].some((kind) => error instanceof kind)) throw error;
      result = error.name;
      if (error instanceof ServerViolation) this.core.detach();
    }
    return [result, this.core.lastSeq, this.core.turns.open.length];
  }

  attach() {
    if (this.core.phase !== "offline") return "attached";
    this.core.attach();
  }
  detach() {
    this.core.detach();
  }
  event(frame) {
    let event;
    try {
      event = decode(frame);
    } catch (error) {
      if (!(error instanceof ServerViolation)) throw error;
      return "refused";
    }
    this.core.receive(event);
  }
  ask(id, on_busy) {
    const turn = this.turns.get(id);
    if (turn !== undefined && !turn.over) return "waits";
    this.turns.set(id, this.core.sendInput({ type: "input.text", id, text: "x", on_busy }));
  }
  interrupt(id, own) {
    if (!this.turns.has(own)) return "none";
    this.core.interrupt({ type: "interrupt", id }, this.turns.get(own));
  }
  hold(own) {
    if (this.turns.has(own)) this.core.hold(this.turns.get(own));
  }
  resume(own) {
    if (this.turns.has(own)) this.core.resume(this.turns.get(own));
  }
  play_(own, chars) {
    if (this.turns.has(own)) this.core.playback(this.turns.get(own), { chars });
  }
  update(metadata) {
    this.core.update(metadata);
  }
  answer(call_id) {
    this.core.answerTool({ type: "tool.output", call_id, output: 1 });
  }
  take(own, count) {
    const inboxes = [this.everything, ...(this.turns.has(own) ? [this.turns.get(own).inbox] : [])];
    let taken = 0;
    for (const inbox of inboxes) {
      assert.ok(inbox.length <= BOUNDS.events + 1);
      for (let i = 0; i < count; i++) taken += inbox.take() !== undefined;
    }
    return taken;
  }
  drain() {
    const sent = this.core.outgoing();
    const outcomes = this.core.outcomes().filter(({ id }) => id !== null);
    return `${sent.length} ${outcomes.map(({ id }) => id).join(",")}`;
  }
}

function core({ steps, results }) {
  const played = new Played();
  steps.forEach(([name, ...given], index) => {
    const result = played.play([name === "play" ? "play_" : name, ...given]);
    assert.deepEqual(result, results[index], `step ${index}: ${JSON.stringify([name, ...given])}`);
  });
}

/** Any frame is taken by a live core or refused with the error for it. */
const live = new Played();

function frame(text) {
  if (live.core.phase === "offline") {
    live.play(["attach"]);
    live.core.receive({
      type: "session.opened", session_id: "s", token: "k", epoch: live.core.epoch || "e", heartbeat_ms: 0,
      resumed: live.core.sessionId !== null, limits: { frame_bytes: 262_144, pending: 64, queued: 8 },
    });
    if (live.core.phase === "replaying") live.core.receive({ type: "replay.done", through: live.core.lastSeq });
  }
  live.play(["event", Buffer.from(text, "base64").toString()]);
  live.play(["take", "", 5]);
  live.play(["drain"]);
}

const check = { streams: stream, cores: core, frames: frame }[process.argv[2]];
readFileSync(process.argv[3], "utf-8").trimEnd().split("\n").forEach((line, index) => {
  try {
    check(JSON.parse(line));
  } catch (error) {
    console.log(JSON.stringify({ index, error: String(error.stack) }));
    process.exit(1);
  }
});

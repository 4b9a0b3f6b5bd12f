/** Servers that break the protocol: no error but the library's own, in bounded time and memory. */

import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";

import { decode } from "../../clients/web/bargein/codec.js";
import { ClientCore } from "../../clients/web/bargein/core.js";
import { ServerViolation } from "../../clients/web/bargein/errors.js";
import { EventStreamParser } from "../../clients/web/bargein/event_stream_parser.js";
import { TurnFold } from "../../clients/web/bargein/fold.js";
import { Inbox } from "../../clients/web/bargein/inbox.js";
import { SseChannel } from "../../clients/web/bargein/sse_channel.js";

const LIMITS = { frame_bytes: 262_144, pending: 64, queued: 8 };
const opened = (resumed) => ({
  type: "session.opened", session_id: "s", token: "k", epoch: "e", resumed, heartbeat_ms: 0, limits: LIMITS,
});

function live() {
  const core = new ClientCore();
  core.attach();
  core.receive(opened(false));
  return core;
}

for (const turnIds of [["t_1", "t_1"], ["t_9", "t_9"], [""]]) {
  test(`a snapshot names each turn once: ${turnIds}`, () => {
    const core = live();
    core.receive({ type: "text.delta", seq: 1, turn_id: "t_1", text: "x" });
    core.detach();
    core.attach();
    core.receive(opened(true));
    const turns = turnIds.map((turn_id) => ({ turn_id, status: "completed" }));
    assert.throws(() => core.receive({ type: "snapshot", through: 9, turns }), ServerViolation);
    assert.equal(core.lastSeq, 1);
    assert.equal(core.turns.open.length, 1);
  });
}

test("open turns are bounded", () => {
  const core = live();
  const event = (seq, turn = seq) => ({ type: "text.delta", seq, turn_id: `t_${turn}`, text: "" });
  for (let seq = 1; seq <= 4096; seq++) core.receive(event(seq));
  assert.throws(() => core.receive(event(4097)), ServerViolation);
  assert.equal(core.lastSeq, 4096);
  core.receive(event(4097, 1));
});

test("an answer of another kind leaves a request waiting", () => {
  const core = live();
  const turn = core.sendInput({ type: "input.text", id: "in_1", text: "x" });
  core.interrupt({ type: "interrupt", id: "x_1" }, turn);
  core.receive({ type: "input.rejected", input_id: "x_1", code: "busy" });
  core.receive({ type: "input.accepted", seq: 1, turn_id: "t_8", input_id: "x_1" });
  core.receive({ type: "interrupt.result", interrupt_id: "in_1", outcome: "unknown_turn" });
  assert.deepEqual(core.outcomes(), []);
  core.receive({ type: "interrupt.result", interrupt_id: "x_1", outcome: "interrupted" });
  core.receive({ type: "input.rejected", input_id: "in_1", code: "busy" });
  assert.deepEqual(core.outcomes().map(({ id }) => id), ["x_1", "in_1"]);
});

test("an event of a client does not come from a server", () => {
  const json = '{"type":"client.turn_snapshot","turn_id":"t_1"}'; // without the state that its reader relies on
  assert.throws(() => decode(json), ServerViolation);
});

test("a value for the application has bounds, so that it can be copied and encoded", () => {
  const json = (value) => `{"type":"data","seq":1,"turn_id":"t","name":"n","value":${value}}`;
  const nested = (depth) => "[".repeat(depth) + "]".repeat(depth);
  decode(json(nested(64)));
  decode(json(`[${"0,".repeat(65_535)}0]`));
  for (const value of [nested(65), nested(100_000), `[${"0,".repeat(65_536)}0]`, `${'{"a":'.repeat(65)}1${"}".repeat(65)}`]) {
    assert.throws(() => decode(json(value)), ServerViolation);
  }
});

test("arguments beyond their bound cost nothing more", () => {
  const fold = new TurnFold("t");
  const delta = (seq, text) => ({ type: "tool.call.delta", seq, turn_id: "t", call_id: "c", arguments: text });
  fold.apply(delta(1, "é".repeat(2 ** 20)));
  const began = performance.now();
  for (let seq = 2; seq < 10_000; seq++) fold.apply(delta(seq, "x"));
  assert.ok(performance.now() - began < 5000); // counting all of it again takes a minute
  assert.equal(fold.state.lanes[""].tools[0].arguments, "é".repeat(2 ** 20));
});

test("every event of the server counts by its size", () => {
  const inbox = new Inbox({ events: 100, size: 1000 });
  const large = "x".repeat(400);
  for (const event of [
    { type: "data", name: "n", value: large },
    { type: "tool.running", call_id: "c", arguments: { a: large } },
    { type: "tool.result", call_id: "c", status: "completed", output: [large] },
    { type: "tool.call.delta", call_id: "c", arguments: large },
    { type: "status", message: large },
  ]) {
    inbox.put({ seq: 1, turn_id: "t_1", ...event });
    assert.ok(inbox.length <= 3);
  }
});

test("a long line in small pieces takes linear time, and is counted", () => {
  const parser = new EventStreamParser();
  for (let i = 0; i < 2 ** 20; i++) assert.deepEqual(parser.feed("x"), []);
  assert.equal(parser.size, 2 ** 20);
  assert.deepEqual(parser.feed("\r"), []);
  assert.deepEqual(parser.feed("\ndata\n\r\n"), [{ kind: "", data: "" }]);
  assert.ok(parser.size < 20);
});

/** Reads a body with a channel; resolves with the reason of its end and what it received. */
async function read(t, write) {
  const server = http.createServer((_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    write(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const received = [];
  const closed = new Promise((resolve) => {
    const listener = { opened: () => channel.send({ type: "session.open" }), received: (e) => received.push(e), closed: resolve };
    const channel = new SseChannel(`http://127.0.0.1:${server.address().port}/v1/sessions`, null, listener, () => 0);
  });
  return { ...(await closed), received };
}

for (const [data, name] of [
  ['{"name":"restart"}', "restart"],
  ["null", "abnormal"],
  ["x", "abnormal"],
  ['{"name":{"toString":1}}', "abnormal"],
  ['{"name":"busy"}', "abnormal"],
]) {
  test(`a close event has a code: ${data}`, async (t) => {
    const { code } = await read(t, (response) => response.write(`event:close\r\ndata:${data}\r\n\r\n`));
    assert.equal(code.name, name);
  });
}

test("an event without an end is refused", async (t) => {
  const { why } = await read(t, (response) => {
    const flood = () => {
      while (response.write("data\n".repeat(20_000)));
      response.once("drain", flood);
    };
    flood();
  });
  assert.match(why, /expected at most 16777216 characters of an event/);
});

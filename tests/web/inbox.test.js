/** The buffer of a consumer: bounded, and silent when it must be. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ClientCore } from "../../clients/web/bargein/core.js";
import { EventReader } from "../../clients/web/bargein/event_reader.js";
import { Inbox, joinDeltas } from "../../clients/web/bargein/inbox.js";
import { taken } from "./talk.js";

const LIMITS = { frame_bytes: 262_144, pending: 64, queued: 8 };

/** A core whose turn t_1 runs, with the numbers 1 and 2. */
function running(bounds) {
  const core = new ClientCore({ bounds: { events: 8192, size: 2 ** 25, ...bounds } });
  const everything = core.turns.subscribe();
  core.attach();
  core.receive({ type: "session.opened", session_id: "s", token: "k", epoch: "e", resumed: false, heartbeat_ms: 0, limits: LIMITS });
  const turn = core.sendInput({ type: "input.text", id: "in_1", text: "x" });
  core.receive({ type: "input.accepted", seq: 1, turn_id: "t_1", input_id: "in_1" });
  core.receive({ type: "turn.started", seq: 2, turn_id: "t_1", input_id: "in_1" });
  return { core, turn, everything };
}

const data = (seq) => ({ type: "data", seq, turn_id: "t_1", name: `n${seq}`, value: seq });
const text = (seq, words, source) => ({ type: "text.delta", seq, turn_id: "t_1", text: words, ...(source && { source }) });
const ended = (seq) => ({ type: "turn.ended", seq, turn_id: "t_1", status: "completed", reason: "completed", last_seq: seq - 1, heard: {} });

test("a slow consumer of text loses nothing", () => {
  const { core, turn } = running({ events: 10 });
  for (let seq = 3; seq < 203; seq++) core.receive(text(seq, "word "));
  assert.ok(turn.inbox.length <= 10);
  const said = taken(turn.inbox).map((event) => event.text ?? "").join("");
  assert.equal(said, "word ".repeat(200));
});

test("a buffer that cannot be joined becomes the state", () => {
  const { core, turn } = running({ events: 10 });
  for (let seq = 3; seq < 103; seq++) core.receive(data(seq));
  core.receive(ended(103));
  const events = taken(turn.inbox);
  assert.equal(events[0].type, "client.turn_snapshot");
  const known = { ...events[0].state.lanes[""].data };
  for (const event of events.slice(1, -1)) known[event.name] = event.value;
  assert.equal(Object.keys(known).length, 100);
  assert.deepEqual(events.at(-1), ended(103));
});

test("a slow stream says what it dropped", () => {
  const { core, everything } = running({ events: 10 });
  for (let seq = 3; seq < 103; seq++) core.receive(data(seq));
  const [first, ...rest] = taken(everything);
  assert.equal(first.type, "client.dropped");
  assert.equal(first.count + rest.length, 102);
});

test("bytes are bounded too", () => {
  const { core, turn } = running({ size: 1000 });
  const audio = "A".repeat(400);
  for (let seq = 3; seq < 23; seq++) core.receive({ type: "audio.delta", seq, turn_id: "t_1", audio, start_ms: 0, duration_ms: 10 });
  const events = taken(turn.inbox);
  assert.equal(events[0].type, "client.turn_snapshot");
  assert.ok(events.filter((event) => event.type === "audio.delta").length * audio.length <= 1000);
});

test("only neighbours of one voice are joined", () => {
  const thought = { type: "thought", seq: 4, turn_id: "t_1", text: "d" };
  const events = [text(1, "a"), text(2, "b"), text(3, "c", "other"), thought, text(5, "e")];
  assert.deepEqual(joinDeltas(events), [text(2, "ab"), text(3, "c", "other"), thought, text(5, "e")]);
});

test("what is set aside is bounded", () => {
  const { core, turn } = running({ events: 10 });
  core.interrupt({ type: "interrupt", id: "x_1" }, turn);
  for (let seq = 3; seq < 203; seq++) core.receive(data(seq));
  core.receive({ type: "interrupt.result", interrupt_id: "x_1", turn_id: "t_1", outcome: "unknown_turn" });
  assert.ok(turn.inbox.length <= 10);
});

test("a reader is woken when there is something, and not for what is set aside", async () => {
  const inbox = new Inbox();
  const reader = new EventReader(inbox);
  const reading = reader.next();
  inbox.setDelivery("t_1", "withheld");
  inbox.put(text(1, "a"));
  assert.equal(await Promise.race([reading, new Promise((resolve) => setImmediate(resolve, "nothing"))]), "nothing");
  await assert.rejects(reader.next(), TypeError, "one loop reads at a time");
  inbox.setDelivery("t_1", "delivered");
  assert.deepEqual(await reading, text(1, "a"));
  reader.close(null);
  assert.equal(await reader.next(), null);
});

test("names of the application cannot reach prototypes", () => {
  const { core, turn } = running({});
  core.receive({ type: "data", seq: 3, turn_id: "t_1", name: "__proto__", value: { polluted: true } });
  core.receive(text(4, "mine", "__proto__"));
  core.receive(JSON.parse('{"type":"text.delta","seq":5,"turn_id":"t_1","text":"yours","source":"constructor"}'));
  assert.equal({}.polluted, undefined);
  assert.deepEqual(Object.keys(turn.fold.state.lanes), ["", "__proto__", "constructor"]);
  assert.equal(turn.snapshot().state.lanes["__proto__"].text, "mine");
});

test("an interrupt of a turn that has ended drops its unread output, whatever a server that lost the session answers", () => {
  for (const outcome of ["unknown_turn", "deferred"]) {
    const { core, turn } = running({});
    core.receive(text(3, "unread"));
    core.receive(ended(4));
    core.detach();
    core.attach();
    core.receive({
      type: "session.opened", session_id: "s_2", token: "k_2", epoch: "e_2", resumed: false, heartbeat_ms: 0, limits: LIMITS,
    });
    core.interrupt({ type: "interrupt", id: "x_1" }, turn);
    core.receive({ type: "interrupt.result", interrupt_id: "x_1", outcome });
    assert.deepEqual(taken(turn.inbox).map((event) => event.type), ["input.accepted", "turn.started", "turn.ended"]);
  }
});

test("a second interrupt reports nothing that was withheld: the end is beyond it", () => {
  const { core, turn } = running({});
  core.receive(text(3, "heard "));
  assert.equal(taken(turn.inbox).at(-1).seq, 3);
  core.receive(text(4, "withheld"));
  core.outgoing();
  core.interrupt({ type: "interrupt", id: "x_1" }, turn);
  core.receive({ type: "interrupt.result", interrupt_id: "x_1", turn_id: "t_1", outcome: "interrupted" });
  core.receive({ ...ended(5), status: "interrupted", reason: "client" });
  assert.deepEqual(taken(turn.inbox).map((event) => event.type), ["turn.ended"]);
  core.interrupt({ type: "interrupt", id: "x_2" }, turn);
  assert.deepEqual(core.outgoing().map((event) => event.played), [{ seq: 3 }, { seq: 3 }]);
});

test("an interrupt after the end reports what was read, and the same again after the end was read", () => {
  const { core, turn } = running({});
  core.receive(text(3, "heard "));
  assert.equal(taken(turn.inbox).at(-1).seq, 3);
  core.receive(text(4, "unread"));
  core.receive(ended(5));
  core.outgoing();
  core.interrupt({ type: "interrupt", id: "x_1" }, turn);
  assert.deepEqual(taken(turn.inbox).map((event) => event.type), ["turn.ended"]);
  core.interrupt({ type: "interrupt", id: "x_2" }, turn);
  assert.deepEqual(core.outgoing().map((event) => event.played), [{ seq: 3 }, { seq: 3 }]);
});

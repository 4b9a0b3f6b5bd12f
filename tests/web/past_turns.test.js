/** A page that opens a conversation gets its turns, also when the server has no event of them any more. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { World, opened } from "./world.js";

const lane = (text) => ({ "": { text } });
const past = (turn_id, fields) => ({
  turn_id, input_id: `i_${turn_id}`, started: true, status: "completed", reason: "completed", last_seq: 2,
  last_output_seq: 1, heard: { seq: 1, text: turn_id, audio_ms: 0 }, lanes: lane(turn_id), ...fields,
});
const snapshot = (...turns) => [
  opened({ resumed: true }), { type: "snapshot", through: 9, turns }, { type: "replay.done", through: 9 },
];

function watched() {
  const world = new World();
  const seen = [];
  world.session.on("turn", (turn) => {
    const one = { turn, events: [] };
    turn.on("*", ({ type }) => one.events.push(type));
    seen.push(one);
  });
  return { world, seen };
}

test("ended turns of a snapshot have handles, in order, with text and end", async () => {
  const { world, seen } = watched();
  const running = past("t_3", { status: undefined, reason: undefined, heard: undefined });
  world.open();
  world.close(1012);
  world.pass(60_000);
  world.open(...snapshot(past("t_1"), past("t_2", { status: "interrupted", reason: "client" }), running));
  assert.deepEqual(seen.map(({ turn }) => [turn.id, turn.inputId, turn.text, turn.end?.status ?? null]), [
    ["t_1", "i_t_1", "t_1", "completed"], ["t_2", "i_t_2", "t_2", "interrupted"], ["t_3", "i_t_3", "t_3", null],
  ]);
  assert.deepEqual(seen[0].events, ["client.turn_snapshot", "turn.ended"]);
  assert.equal((await seen[1].turn.ended()).reason, "client");
  assert.equal((await seen[1].turn.accepted()).turn_id, "t_2");
  const types = [];
  for await (const event of seen[0].turn) types.push(event.type);
  assert.deepEqual(types, ["client.turn_snapshot", "turn.ended"]);
  assert.deepEqual(world.session.turns.map((turn) => turn.id), ["t_3"]);
});

test("a turn that ended here has its handle already, and a dropped one gets none", () => {
  const { world, seen } = watched();
  world.open();
  const ended = { type: "turn.ended", seq: 2, turn_id: "t_1", status: "completed", reason: "completed" };
  world.say({ type: "turn.started", seq: 1, turn_id: "t_1", input_id: "i_t_1" }, ended);
  world.close(1012);
  world.pass(60_000);
  world.open(...snapshot(past("t_1"), past("t_2"), past("t_4", { dropped: true, lanes: {} })));
  world.close(1012);
  world.pass(60_000);
  world.open(...snapshot(past("t_1"), past("t_2")));
  assert.deepEqual(seen.map(({ turn }) => turn.id), ["t_1", "t_2"]);
});

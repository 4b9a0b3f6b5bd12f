/** The golden messages, of which the Python implementation asserts the same file. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { decode, encode } from "../../clients/web/bargein/codec.js";
import { CODES } from "../../clients/web/bargein/codes.js";
import { ServerViolation } from "../../clients/web/bargein/errors.js";
import { TurnFold } from "../../clients/web/bargein/fold.js";
import { isKnown, isNumbered } from "../../clients/web/bargein/kinds.js";
import { EVENTS, OBJECTS } from "../../clients/web/bargein/shapes.js";
import { lean, protocolFile } from "./talk.js";

const vectors = protocolFile("vectors.json");

for (const { name, direction, json, event } of vectors.messages) {
  if (direction === "server") {
    test(`a message decodes to its event: ${name}`, () => assert.deepEqual(decode(json), event));
  } else {
    test(`an event encodes to its message: ${name}`, () => assert.equal(encode(event), json));
  }
}

for (const { name, direction, json, event } of vectors.tolerated) {
  if (direction !== "server") continue;
  test(`unusual text is understood: ${name}`, () => assert.deepEqual({ ...decode(json), ...event }, decode(json)));
}

for (const { name, direction, json } of vectors.invalid) {
  if (direction !== "server") continue;
  test(`an invalid frame is refused: ${name}`, () => assert.throws(() => decode(json), ServerViolation));
}

for (const json of [
  '{"type":"text.delta","seq":1,"turn_id":"t","text":7}',
  '{"type":"text.delta","seq":1.5,"turn_id":"t","text":"x"}',
  `{"type":"text.delta","seq":1,"turn_id":"${"t".repeat(65)}","text":"x"}`,
  '{"type":"audio.delta","seq":1,"turn_id":"t","audio":"?","start_ms":0,"duration_ms":0}',
  '{"type":"tool.running","seq":1,"turn_id":"t","call_id":"","arguments":{}}',
  '{"type":"tool.running","seq":1,"turn_id":"t","call_id":"c","arguments":[]}',
  '{"type":"input.accepted","seq":1,"turn_id":"t","input_id":"i","duplicate":"yes"}',
  '{"type":"snapshot","through":1,"turns":[{"turn_id":"t","lanes":{"":{"tools":[{"call_id":"c","state":"lost"}]}}}]}',
  '{"type":"snapshot","through":1,"turns":{}}',
  '{"type":"data","seq":1,"turn_id":"t","name":"n"}',
]) {
  test(`an invalid frame is refused: ${json.slice(0, 60)}`, () => assert.throws(() => decode(json), ServerViolation));
}

test("a bound counts characters, not the units of UTF-16", () => {
  const json = (count) => JSON.stringify({ type: "goaway", reason: "\u{1f600}".repeat(count), reconnect_after_ms: 0 });
  decode(json(128));
  assert.throws(() => decode(json(129)), ServerViolation);
});

test("the table of codes is that of the protocol", () => {
  const guide = readFileSync(new URL("../../protocol/README.md", import.meta.url), "utf-8");
  const rows = [...guide.matchAll(/^\| (\d{4}) \| `(\w+)` \| (.+) \| (\w+) \| (yes)? ?\|$/gm)];
  const listed = rows.map(([, number, name, reason, action, closes]) => [Number(number), name, reason, action, closes === "yes"]);
  const sort = (table) => table.sort(([a], [b]) => a - b);
  const known = CODES.map(({ number, name, reason, action, closes }) => [number, name, reason, action, closes]);
  assert.ok(listed.length > 20);
  assert.deepEqual(sort(known), sort(listed));
});

test("every event of the schema is known, with or without a number", () => {
  for (const [type, name] of Object.entries(EVENTS)) {
    assert.ok(isKnown(type), type);
    assert.equal(isNumbered({ type }), "seq" in OBJECTS[name], type);
  }
});

for (const { name, turn_id, events, folded } of vectors.folds) {
  test(`events fold to the turn: ${name}`, () => {
    const fold = new TurnFold(turn_id);
    for (const event of events) fold.apply(event);
    assert.deepEqual(lean(fold.state), folded);
  });
}

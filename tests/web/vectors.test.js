/** The golden messages, of which the Python implementation asserts the same file. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { TurnFold } from "../../clients/web/bargein/fold.js";
import { lean, protocolFile } from "./talk.js";

const vectors = protocolFile("vectors.json");

for (const { name, turn_id, events, folded } of vectors.folds) {
  test(`events fold to the turn: ${name}`, () => {
    const fold = new TurnFold(turn_id);
    for (const event of events) fold.apply(event);
    assert.deepEqual(lean(fold.state), folded);
  });
}

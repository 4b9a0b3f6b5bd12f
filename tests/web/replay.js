/** Plays recorded conversations with the core: `node replay.js FILE`; ends with 1 at the first step that differs. */

import { readFileSync } from "node:fs";

import { Player } from "./talk.js";

for (const { name, steps } of JSON.parse(readFileSync(process.argv[2], "utf-8"))) {
  const player = new Player();
  steps.forEach((step, index) => {
    try {
      player.play(step);
    } catch (error) {
      console.error(`${name}, step ${index}, after ${JSON.stringify(steps.slice(Math.max(0, index - 6), index), null, 1)}`);
      throw error;
    }
  });
}

/** The conversations that every client is held against, played with the core of this one. */

import { test } from "node:test";

import { Player, protocolFile } from "./talk.js";

for (const { name, steps } of protocolFile("conversations.json").conversations) {
  test(name, () => {
    const player = new Player();
    for (const step of steps) player.play(step);
  });
}

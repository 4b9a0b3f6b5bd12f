/** Sleeping devices, clocks that are set, and pages that are stored. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { opened, resumed, World } from "./world.js";

test("the hours in which the device slept are no outage", () => {
  const world = new World().open();
  world.close(1006);
  world.pass(8 * 3_600_000, true); // the timer of the next attempt fires late
  for (let n = 0; n < 8; n++) {
    world.close(1006);
    assert.equal(world.states.at(-1).name, "reconnecting");
    world.pass(30_000);
  }
  world.open(...resumed());
  assert.equal(world.states.at(-1).name, "open");
});

test("the outage begins after a sleep of an open session", () => {
  const world = new World({ giveUpAfterMs: 60_000 }).open();
  world.pass(8 * 3_600_000, true); // the frames that were missed: a ping
  assert.equal(world.sent.at(-1), "ping");
  world.pass(3000); // and no answer
  assert.equal(world.states.at(-1).name, "reconnecting");
  for (let n = 0; n < 20 && world.states.at(-1).name !== "closed"; n++) {
    world.pass(30_000);
    world.close(1006);
  }
  assert.equal(world.states.at(-1).name, "closed"); // an awake device gives up
});

for (const hours of [-1, 1, 24 * 365]) {
  test(`a clock that is set by ${hours} h neither ends a session nor hides that the server is silent`, () => {
    const world = new World().open();
    world.pass(1000);
    world.now += hours * 3_600_000;
    world.timers.forEach((timer) => (timer.at += hours * 3_600_000)); // timers do not follow the clock
    for (let n = 0; n < 10; n++) {
      world.pass(10_000);
      world.say({ type: "heartbeat" });
    }
    assert.equal(world.lines.length, 1);
    world.pass(40_000);
    assert.equal(world.states.at(-1).name, "reconnecting");
  });
}

test("a clock that is set forward while the line is silent costs a ping, not the line", () => {
  const world = new World().open();
  world.pass(29_000);
  world.say({ type: "heartbeat" });
  world.now += 3_600_000;
  world.timers.forEach((timer) => (timer.at += 3_600_000)); // timers do not follow the clock
  world.pass(1000); // the timer of the frame before
  assert.deepEqual([world.states.at(-1).name, world.sent.at(-1)], ["open", "ping"]);
  world.say({ type: "pong", id: world.line.sent.at(-1).id });
  world.pass(29_000);
  assert.equal(world.lines.length, 1);
  world.pass(60_000);
  assert.equal(world.states.at(-1).name, "reconnecting", "silence is still detected");
});

test("a page that is stored closes its line, and its return opens another at once", () => {
  const world = new World().open();
  world.notice("stored");
  assert.ok(world.line.aborted);
  assert.equal(world.states.at(-1).name, "reconnecting");
  world.now += 3_600_000; // no timer fires in a stored page
  world.notice("visible");
  assert.equal(world.lines.length, 2);
  world.notice("visible"); // `visibilitychange` and `pageshow`
  world.pass(1);
  assert.equal(world.lines.length, 2);
  world.open(...resumed());
  assert.equal(world.states.at(-1).name, "open");
});

test("a page that was frozen opens another line at once", () => {
  const world = new World().open();
  world.now += 3_600_000;
  world.notice("thawed");
  assert.ok(world.lines[0].aborted);
  assert.equal(world.lines.length, 2);
  assert.equal(world.states.at(-1).name, "reconnecting");
  world.notice("visible");
  world.open(...resumed()).pass(5000);
  assert.deepEqual([world.lines.length, world.states.at(-1).name], [2, "open"]);
});

test("a page that is stored while it connects for the first time connects when it returns", async () => {
  const world = new World();
  world.notice("stored");
  world.notice("visible");
  world.open();
  await world.opening;
});

test("a page that does not want to reconnect is left alone when it is stored or frozen", () => {
  const world = new World({ reconnect: false }).open();
  world.notice("stored");
  world.notice("thawed");
  assert.ok(!world.line.aborted);
});

for (const news of ["visible", "online"]) {
  test(`${news}: an attempt that hangs is made again, one that has just begun is not`, () => {
    const world = new World().open();
    world.close(1006);
    world.pass(250);
    world.pass(1000);
    world.notice(news);
    assert.equal(world.lines.length, 2);
    world.pass(2000);
    world.notice(news);
    assert.equal(world.lines.length, 3);
    assert.ok(world.lines[1].aborted);
    world.open(...resumed());
    assert.equal(world.states.at(-1).name, "open");
  });
}

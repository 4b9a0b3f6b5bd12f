/** The microphone of a session: samples, pieces, bounds. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { AudioInput, Microphone } from "../../clients/web/bargein/microphone.js";
import { SendQueue } from "../../clients/web/bargein/send_queue.js";

const SOUND = { input: { encoding: "pcm16", rate: 16_000 } };

/** An open queue with a microphone on it. */
function open(granted = SOUND) {
  const queue = new SendQueue();
  queue.accepts = true;
  const audio = new AudioInput(queue, { input: { rate: 16_000 } });
  audio.open(granted);
  const session = { _audio: audio, _sendSound: (sound) => audio.send(sound), _act: (call) => call({ audio }) };
  return { queue, audio, microphone: new Microphone(session) };
}

test("samples go out as little-endian bytes, 20 ms in a piece", () => {
  const { queue, microphone } = open();
  assert.deepEqual(microphone.format, SOUND.input);
  assert.ok(microphone.send(new Int16Array(320).fill(-2)));
  const [event, ...rest] = queue.drain();
  assert.deepEqual(rest, []);
  const bytes = Buffer.from(event.audio, "base64");
  assert.equal(bytes.length, 640);
  assert.equal(bytes.readInt16LE(638), -2);
});

test("a slow line drops sound, and the number of bytes is known", () => {
  const { queue, audio, microphone } = open();
  assert.equal(microphone.send(new Uint8Array(640 * 102)), false);
  assert.equal(queue.drain().length, 100);
  assert.equal(audio.dropped, 2 * 640);
});

test("nothing is sent to a server that takes another format, or none", () => {
  for (const granted of [null, {}, { input: { encoding: "mulaw", rate: 16_000 } }, { input: { encoding: "pcm16", rate: 8000 } }]) {
    const { queue, microphone } = open(granted);
    assert.equal(microphone.format, null);
    assert.equal(microphone.send(new Int16Array(320)), false);
    microphone.clear();
    assert.deepEqual(queue.drain(), []);
  }
});

test("the server says whether it detects speech", () => {
  assert.equal(open().microphone.detects, true);
  assert.equal(open({ ...SOUND, turn_detection: { type: "none" } }).microphone.detects, false);
});

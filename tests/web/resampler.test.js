import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler } from "../../clients/web/bargein/audio/resampler.js";

/** Returns the level of a tone after the change of its rate, in decibels, and the number of samples. */
function passed(from, hertz) {
  const resampler = new Resampler(from, 16_000);
  const tone = new Float32Array(from).map((_, i) => Math.sin((2 * Math.PI * hertz * i) / from));
  const out = [];
  for (let at = 0; at < tone.length; at += 128) out.push(...resampler.take(tone.subarray(at, at + 128)));
  const settled = out.slice(1000);
  const power = settled.reduce((sum, sample) => sum + sample * sample, 0) / settled.length;
  return { level: 10 * Math.log10(2 * power), samples: out.length };
}

for (const from of [8000, 24_000, 44_100, 48_000]) {
  test(`speech passes from ${from} samples per second`, () => {
    for (const hertz of [300, 3000]) {
      const { level, samples } = passed(from, hertz);
      assert.ok(Math.abs(level) < 0.1, `${level} dB`);
      assert.ok(samples > 15_900 && samples <= 16_000, `${samples} samples`);
    }
  });
}

for (const from of [44_100, 48_000]) {
  test(`what lies above does not fold into speech from ${from}`, () => {
    assert.ok(passed(from, 10_000).level < -60);
  });
}

test("a rate of its own length changes nothing but the delay", () => {
  assert.ok(Math.abs(passed(16_000, 1000).level) < 0.1);
});

/** Every JavaScript example of the client's guides runs. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { startServer } from "./server.js";

const client = new URL("../../clients/web/", import.meta.url);
const library = new URL("bargein/index.js", client).href;
const ws = pathToFileURL(createRequire(new URL("package.json", client)).resolve("ws")).href;
const endings = [];
const { url } = await startServer({ after: (end) => endings.push(end) });
after(() => Promise.all(endings.map((end) => end())));

const folder = mkdtempSync(path.join(tmpdir(), "bargein-guide-"));
after(() => rmSync(folder, { recursive: true }));

/** What a page has and Node.js lacks. */
const PAGE = `
  import webSocket from ${JSON.stringify(ws)};
  globalThis.WebSocket ??= webSocket.WebSocket;
  globalThis.addEventListener = (name, listener) => listener();
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
`;

for (const guide of ["README.md", "docs/guide.md"]) {
  const blocks = [...readFileSync(new URL(guide, client), "utf-8").matchAll(/```js\n([^]*?)```/g)].map(([, block]) => block);
  blocks.forEach((block, number) => {
    test(`${guide}, example ${number}`, async () => {
      const isProgram = block.includes("import ");
      const imports = `import { connect } from ${JSON.stringify(library)};`;
      const program = isProgram
        ? `${PAGE}${block.replace('from "bargein";', `from ${JSON.stringify(library)};`)}`
        : `${PAGE}${imports}\nconst session = await connect("ws://localhost:8000");\n${block}`;
      const file = path.join(folder, `${path.basename(guide)}-${number}.mjs`);
      // A program of the guide may leave its session open, as a page does.
      writeFileSync(file, `${program.replaceAll("ws://localhost:8000", url)}\nprocess.exit(0);\n`);
      await promisify(execFile)("node", [file], { timeout: 30_000 });
    });
  });
}

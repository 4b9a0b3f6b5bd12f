#!/usr/bin/env node
/**
 * Copies the libraries that the page uses from `clients/web/node_modules` to `clients/web/vendor`, as modules
 * that a browser reads as they are, with their licences.
 *
 *     node scripts/vendor.js            write them
 *     node scripts/vendor.js --check    exit with 1 when they are stale
 */

"use strict";

const { mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const path = require("node:path");

const web = path.join(__dirname, "../clients/web");
const read = (file) => readFileSync(path.join(web, "node_modules", file), "utf-8");

/** What is inside each of the two files. */
const INSIDE = {
  "markdown-it": "LICENSE",
  entities: "LICENSE",
  "linkify-it": "LICENSE",
  mdurl: "LICENSE",
  "punycode.js": "LICENSE-MIT.txt",
  "uc.micro": "LICENSE.txt",
  "partial-json": "LICENSE",
};

/** The package's own bundle for browsers, without its source map. */
function markdownIt() {
  const bundle = read("markdown-it/dist/browser/markdown-it.esm.min.mjs");
  return bundle.replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n");
}

/** Two CommonJS files, wrapped: the package has no module for browsers. */
function partialJson() {
  const { version } = JSON.parse(read("partial-json/package.json"));
  const body = (name) => read(`partial-json/dist/${name}.js`).replace(/^"use strict";\n/, "").trimEnd();
  return [
    `/*! partial-json ${version} https://github.com/promplate/partial-json-parser-js @license MIT */`,
    "const options = {}, index = {};",
    `(function (exports) {\n${body("options")}\n})(options);`,
    `(function (exports, require) {\n${body("index")}\n})(index, () => options);`,
    "export const { parse, Allow, PartialJSON, MalformedJSON } = index;\n",
  ].join("\n");
}

function licences() {
  return Object.entries(INSIDE)
    .map(([name, file]) => `${name} ${JSON.parse(read(`${name}/package.json`)).version}\n\n${read(`${name}/${file}`).trim()}\n`)
    .join(`\n${"-".repeat(80)}\n\n`);
}

const files = { "markdown-it.js": markdownIt(), "partial-json.js": partialJson(), "LICENSES.txt": licences() };
const stale = Object.entries(files).filter(([name, text]) => {
  try {
    return readFileSync(path.join(web, "vendor", name), "utf-8") !== text;
  } catch {
    return true;
  }
});
if (process.argv.includes("--check")) {
  for (const [name] of stale) console.error(`clients/web/vendor/${name} is stale: run node scripts/vendor.js`);
  process.exitCode = stale.length > 0 ? 1 : 0;
} else {
  mkdirSync(path.join(web, "vendor"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(web, "vendor", name), text);
}

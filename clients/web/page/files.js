/**
 * Files that go with the next message: chosen, pasted or dropped, and shown above the field. Images are made smaller
 * until they fit into a frame of the server.
 *
 * @module
 */

import { byId, el } from "./dom.js";
import { icon } from "./icons.js";

/** @import { AttachedFile, Limits } from "../bargein/types.js" */

const MOST_FILES = 8;
/** The longest side of an image that is sent, in pixels; models see no more. */
const LONGEST_PX = 1568;
const THUMB_PX = 160;
/** Room in a frame for the text and the fields around it, in bytes. */
const RESERVED = 16_384;
const SHRUNK = new Set(["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif"]);

/**
 * A file as it is shown.
 *
 * @typedef {object} Shown
 * @property {string} name
 * @property {string} mediaType
 * @property {string} thumb Data URL of a small picture; empty for other files.
 */

/** @typedef {Shown & {data: Uint8Array}} Chosen */

export class Files {
  #button = /** @type {HTMLButtonElement} */ (byId("attach"));
  #input = /** @type {HTMLInputElement} */ (byId("files"));
  #place = byId("attached");
  /** @type {Chosen[]} */
  #chosen = [];
  /** @type {Limits | null} */
  #limits = null;

  /** @param {{tell: (words: string) => void}} owner */
  constructor({ tell }) {
    this.tell = tell;
    this.#button.addEventListener("click", () => this.#input.click());
    this.#input.addEventListener("change", () => {
      this.#add([...(this.#input.files ?? [])]);
      this.#input.value = "";
    });
    document.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    document.addEventListener("dragover", (event) => {
      if (this.#isAble && event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
    document.addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
  }

  /** The limits of the server, with the types that the agent takes. @param {Limits | null} limits */
  set limits(limits) {
    this.#limits = limits;
    this.#button.hidden = !this.#isAble;
    this.#input.accept = this.#types.includes("*/*") ? "" : this.#types.join(",");
    if (!this.#isAble) this.clear();
  }

  /** The files for the next message. */
  get chosen() {
    return this.#chosen;
  }

  clear() {
    this.#chosen = [];
    this.#render();
  }

  /** @returns {string[]} */
  get #types() {
    return this.#limits?.attachments ?? [];
  }

  get #isAble() {
    return this.#types.length > 0;
  }

  /** @param {Event} event @param {DataTransfer | null} transfer */
  #take(event, transfer) {
    const files = [...(transfer?.files ?? [])];
    if (!this.#isAble || files.length === 0) return;
    event.preventDefault();
    this.#add(files);
  }

  /** @param {File[]} files */
  async #add(files) {
    for (const file of files) {
      if (this.#chosen.length >= MOST_FILES) return this.tell(`A message takes at most ${MOST_FILES} files.`);
      const mediaType = file.type || "application/octet-stream";
      if (!this.#takes(mediaType)) {
        this.tell(`The agent takes no files like “${file.name}”. It takes: ${this.#types.join(", ")}.`);
        continue;
      }
      const chosen = await this.#read(file, mediaType);
      if (chosen === null) this.tell(`“${file.name}” is too large: the server takes ${inKilobytes(this.#room)} in one message.`);
      else this.#chosen.push(chosen);
      this.#render();
    }
  }

  /** @param {string} mediaType */
  #takes(mediaType) {
    return this.#types.some((type) => type === mediaType || type === "*/*" || (type.endsWith("/*") && mediaType.startsWith(type.slice(0, -1))));
  }

  /** Bytes that the next file may have: base64 takes four for three. */
  get #room() {
    const used = this.#chosen.reduce((sum, { data }) => sum + data.length, 0);
    return Math.max(0, (((this.#limits?.frame_bytes ?? 0) - RESERVED) * 3) / 4 - used);
  }

  /** @param {File} file @param {string} mediaType @returns {Promise<Chosen | null>} */
  async #read(file, mediaType) {
    const bitmap = SHRUNK.has(mediaType) ? await createImageBitmap(file).catch(() => null) : null;
    const thumb = bitmap === null ? "" : thumbnail(bitmap);
    if (file.size <= this.#room && (bitmap === null || Math.max(bitmap.width, bitmap.height) <= LONGEST_PX)) {
      return { name: file.name, mediaType, thumb, data: new Uint8Array(await file.arrayBuffer()) };
    }
    if (bitmap === null || !this.#takes("image/jpeg")) return null;
    const data = await shrunk(bitmap, this.#room);
    return data === null ? null : { name: file.name.replace(/\.\w+$/, ".jpg"), mediaType: "image/jpeg", thumb, data };
  }

  #render() {
    this.#place.hidden = this.#chosen.length === 0;
    this.#place.replaceChildren(
      ...this.#chosen.map((file) => {
        const drop = () => {
          this.#chosen = this.#chosen.filter((one) => one !== file);
          this.#render();
        };
        return el("li", {}, ...picture(file), el("button", { type: "button", "aria-label": `Remove ${file.name}`, onclick: drop }, icon("cross")));
      }),
    );
  }
}

/** Returns the files of a message as elements. @param {Shown[]} files */
export function fileList(files) {
  return el("ul", { class: "files", "aria-label": "Files" }, ...files.map((file) => el("li", {}, ...picture(file))));
}

/** @param {Chosen[]} files @returns {AttachedFile[]} */
export function attached(files) {
  return files.map(({ name, mediaType, data }) => ({ name: name.slice(0, 128), mediaType, data }));
}

/** @param {Shown} file */
function picture({ name, thumb }) {
  return thumb === "" ? [icon("clip"), el("span", {}, name)] : [el("img", { src: thumb, alt: name })];
}

/** @param {ImageBitmap} bitmap */
function thumbnail(bitmap) {
  return drawn(bitmap, THUMB_PX).toDataURL("image/jpeg", 0.8);
}

/** Returns an image as JPEG below a size; null when that is impossible. @param {ImageBitmap} bitmap @param {number} room In bytes. */
async function shrunk(bitmap, room) {
  for (let side = LONGEST_PX; side >= 256; side = Math.round(side * 0.75)) {
    const canvas = drawn(bitmap, side);
    /** @type {Blob | null} */
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.82));
    if (blob !== null && blob.size <= room) return new Uint8Array(await blob.arrayBuffer());
  }
  return null;
}

/** @param {ImageBitmap} bitmap @param {number} side The longest side, in pixels. */
function drawn(bitmap, side) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  const context = canvas.getContext("2d");
  if (context !== null) {
    context.fillStyle = "#fff"; // JPEG has no transparency
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }
  return canvas;
}

/** @param {number} bytes */
function inKilobytes(bytes) {
  return `${Math.floor(bytes / 1024)} KB`;
}

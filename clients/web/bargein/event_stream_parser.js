/**
 * Parser of event streams (HTML Living Standard, section 9.2.6).
 *
 * Its time and its memory are proportional to the text, however the text arrives.
 *
 * @module
 */

/** @typedef {{kind: string, data: string}} StreamEvent Type of an event, "" without one, and its data. */

/** Parser of one stream; ids, comments and unknown fields are ignored. */
export class EventStreamParser {
  /** The incomplete line. @type {string[]} */
  #line = [];
  #kind = "";
  /** The lines of the incomplete event. @type {string[]} */
  #data = [];
  #isAfterCr = false;
  /** Characters since the last complete event: those that may be kept, and the chunks of which they are parts. */
  size = 0;

  /**
   * Returns the events that are complete after this text. The decoder has taken the byte order mark.
   *
   * @param {string} text
   * @returns {StreamEvent[]}
   */
  feed(text) {
    if (this.#isAfterCr && text !== "") {
      this.#isAfterCr = false;
      if (text.startsWith("\n")) text = text.slice(1); // the second half of a line end
    }
    if (text === "") return [];
    this.#isAfterCr = text.endsWith("\r");
    this.size += text.length;
    const lines = text.split(/\r\n|\n|\r/);
    const rest = lines.pop() ?? "";
    /** @type {StreamEvent[]} */
    const events = [];
    for (const end of lines) {
      const line = this.#line.length === 0 ? end : this.#line.join("") + end;
      this.#line = [];
      if (line !== "") {
        this.#field(line);
        continue;
      }
      this.size = text.length;
      if (this.#data.length > 0) events.push({ kind: this.#kind, data: this.#data.join("\n") });
      this.#kind = "";
      this.#data = [];
    }
    if (rest !== "") this.#line.push(rest);
    return events;
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#kind = value;
    else if (name === "data") this.#data.push(value);
  }
}

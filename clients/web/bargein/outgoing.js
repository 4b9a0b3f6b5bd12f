/**
 * Values of the application in the form that they have on the wire.
 *
 * @module
 */

/** Returns a file as an attachment. @param {import("./types.js").AttachedFile} file @returns {import("./types.js").Attachment} */
export function onWire({ mediaType, data, name = "" }) {
  let binary = "";
  // A call takes a bounded number of arguments.
  for (let at = 0; at < data.length; at += 8192) binary += String.fromCharCode(...data.subarray(at, at + 8192));
  return { media_type: mediaType, data: btoa(binary), ...(name === "" ? {} : { name: wellFormed(name) }) };
}

/** Returns text without lone surrogates, which servers reject. @param {string} text */
export function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

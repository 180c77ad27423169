// Parts of the page: text elements with base64 of gzip. Some come before the script; the browser still reads the others while it runs.

import { through } from "./streams.js";

const early = new Set(Array.from(document.querySelectorAll("script[id]"), ({ id }) => id));
const whole = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
  else resolve();
});

/** Return the text of an element of the page; throw if it is missing. */
export function textOf(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page lacks its part ${id}`);
  return element.textContent;
}

/** Return the bytes of a part, once the browser has read it; throw if it is missing or damaged. */
export async function partBytes(name) {
  const id = `part-${name}`;
  if (!early.has(id)) await whole; // until then an element may have a part of its text
  const packed = textOf(id);
  try {
    return await through(new DecompressionStream("gzip"), bytesOfBase64(packed));
  } catch {
    throw new Error(`its part ${name} is damaged`); // what browsers say of it does not help
  }
}

/** Return the value of a part that is JSON. */
export async function partJson(name) {
  return JSON.parse(new TextDecoder().decode(await partBytes(name)));
}

function bytesOfBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

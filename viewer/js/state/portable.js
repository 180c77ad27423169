// States outside of the page: in links and in saved pages.

import { through } from "../data/streams.js";
import { isObject } from "./checks.js";
import { changesOf, stateOf } from "./state.js";
import { ARROW } from "./subject.js";

const KEY = "s"; // of the fragment: #s=…
const MOST_BYTES = 2 ** 20; // of the changes in a link that are read
const OTHER_PICTURE = ["nodeThreshold", "edgeThreshold", "keepErrors", "target", "sizeBy"]; // keys that show what the usual pruning hides, or other sizes

/** Return the state of the page as a fragment with its #; "" if the page has this state without one. */
export async function fragmentOf(state, files) {
  const text = JSON.stringify(changesOf(state, files));
  if (text === JSON.stringify(changesOf(restoredState(null, files), files))) return "";
  const packed = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(text));
  const base64 = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  return `#${KEY}=${base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** Return the changes in a fragment, which are not checked; null for none. Throw for one that is damaged or too long. */
export async function changesIn(fragment) {
  const text = new URLSearchParams(fragment.replace(/^#/, "")).get(KEY);
  if (text === null) return null;
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(await through(new DecompressionStream("deflate-raw"), bytes, MOST_BYTES)));
}

/**
 * Return the changes with which the page opens, which are not checked: those of its link, else of the saved page, else of the graph
 * files. `damaged` is true if the link could not be read.
 */
export async function firstChanges(files) {
  let [changes, damaged] = [null, false];
  try {
    changes = await changesIn(location.hash);
  } catch {
    damaged = true;
  }
  return { changes: changes ?? savedChanges(files), damaged };
}

/** Return whether a graph that is pruned as usual is enough to read some changes and to show the circuit with them. */
export function keepsPicture(changes) {
  const file = changes?.files?.[0];
  if (!isObject(file)) return true;
  const hasPinnedEdge = JSON.stringify(file.pins ?? []).includes(ARROW); // which may be hidden
  return !hasPinnedEdge && !OTHER_PICTURE.some((key) => Object.hasOwn(file, key));
}

/** Return the state with the changes of a link, or with those of the saved page for null; what is invalid is left out. */
export function restoredState(changes, files) {
  return stateOf(changes ?? savedChanges(files), files);
}

/** Return the changes in a saved page, which has them in an element, or else those that came with the graph files. */
function savedChanges(files) {
  const element = document.getElementById("state");
  try {
    if (element) return JSON.parse(element.textContent);
  } catch {
    // a page that someone edited: the files are still good
  }
  return { files: files.map(({ extras, graph }) => extras.state ?? graph.info.page) };
}

// Names of nodes in text, and names of groups and labels, which must not read as nodes: graphs/nodes.py, graphs/annotations.py.

import { ERROR, FEATURE, TOKEN } from "../data/graph.js";
import { isUnicode } from "./checks.js";

const NODE = /^\s*L(\d{1,6})\s*(?:#\s*(\d{1,9})|#?\s*error)\s*(?:@\s*([^\s'"][^'"]*?))?\s*(?:\s(?:'.*'|".*")\s*)?$/s;
const TOKEN_NODE = /^\s*token\s*(?:@\s*(.+?))?\s*$/s;
const NEURONPEDIA = /^\s*(\d{1,6})_(\d{1,9})(?:_(\d{1,6}))?\s*$/;
const RANGE = /^\s*(-?\d{1,6})(?::(-?\d{1,6}))?\s*$/;
const WORDS = ["all", "prompt", "generated"];
const LONGEST = 1000; // characters of a name or label that a page takes

/** Return whether queries would read a text as a node. */
export function readsAsNode(text) {
  return parseNode(text) !== null;
}

/** Return why a text cannot be the name of a group or a label, or "" if it can. */
export function nameProblem(text, what = "name") {
  const inner = text.trim();
  if (text.length > LONGEST) return `a ${what} has at most ${LONGEST} characters`;
  if (!isUnicode(text)) return `this ${what} has half of a character; write it again`;
  if (/^\p{Nd}+$/u.test(inner) || readsAsNode(inner)) return `"${inner}" would be read as a node; choose another ${what}`;
  if (inner.startsWith("@")) return `"${inner}" would be read as a span of positions; choose another ${what}`;
  return "";
}

/** Return the numbers of the nodes of a graph that a name refers to, one for each of its positions; none for other texts. */
export function nodesNamed(graph, name) {
  const exact = graph.nodeOf(name);
  if (exact >= 0) return [exact];
  const parsed = /@\d+$/.test(name) ? null : parseNode(name); // one position: it was pruned
  if (!parsed) return [];
  const wanted = positionsOf(parsed.positions, graph.info.tokens.length);
  const found = [];
  for (let node = 0; node < graph.size; node++) {
    const fits = graph.kind[node] === parsed.kind && (parsed.kind === TOKEN || graph.layer[node] === parsed.layer);
    if (fits && (parsed.kind !== FEATURE || graph.feature[node] === parsed.feature) && (!wanted || wanted.has(graph.position[node]))) {
      found.push(node);
    }
  }
  return found;
}

/** Return {kind, layer, feature, positions} of a text that names a node, or null; positions are a word or [first, stop] pairs. */
function parseNode(text) {
  const [own, token, theirs] = [NODE.exec(text), TOKEN_NODE.exec(text), NEURONPEDIA.exec(text)];
  if (theirs) return { kind: FEATURE, layer: +theirs[1], feature: +theirs[2], positions: parsePositions(theirs[3] ?? "all") };
  const match = own ?? token;
  const positions = match && parsePositions(match.at(own ? 3 : 1) ?? "all");
  if (!positions) return null;
  if (token) return { kind: TOKEN, positions };
  return { kind: own[2] === undefined ? ERROR : FEATURE, layer: +own[1], feature: +own[2], positions };
}

/** Return a word, or the [first, stop] pairs of a text such as 3,5,8:11; null for anything else. */
function parsePositions(text) {
  if (WORDS.includes(text.trim())) return text.trim();
  const pairs = text.split(",").map((part) => {
    const match = RANGE.exec(part);
    if (!match) return null;
    const first = +match[1];
    const stop = match[2] === undefined ? first + 1 : +match[2];
    return stop <= first || (first < 0 && stop > 0 && match[2] !== undefined) ? null : [first, stop];
  });
  const isValid = !pairs.includes(null) && pairs.toSorted(([a], [b]) => a - b).every(([first], at, sorted) => at === 0 || first >= sorted[at - 1][1]);
  return isValid ? pairs : null; // each position once
}

/** Return the positions that pairs name in a prompt, or null for all; those outside are passed over. */
function positionsOf(positions, length) {
  if (typeof positions === "string") return positions === "generated" ? new Set() : null;
  const named = positions.flatMap(([first, stop]) => {
    const from = Math.max(first, -length);
    return Array.from({ length: Math.max(0, Math.min(stop, length) - from) }, (_, step) => from + step);
  });
  return new Set(named.map((position) => (position < 0 ? position + length : position)));
}

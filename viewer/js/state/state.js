// What a page can hold of a user's changes: for every key its first value, and how a value from outside is read.
// Nodes are named as `GraphData.nameOf` does.

import { between, entriesOf, flag, indexBelow, isObject, listOf, oneOf, textUpTo, tuple } from "./checks.js";
import { canLabel, labelKey } from "../data/labels.js";
import { nameProblem } from "./names.js";
import { subjectOf } from "./subject.js";

const MOST = 100_000; // items of a list in a page that anyone can write
const MOST_GROUPS = 2000;
const FARTHEST = 1e6; // units of the layout
const LONGEST_TEXT = 4000; // characters of a reason
const STATUSES = ["both", "changed", "only_a", "only_b"]; // as graphs/diff/tables.py
const GROUP_TEXTS = ["source", "reason", "label"];

/**
 * Per key of a file: `first(graph)`, its value before a user changes anything; `read(graph)`, a function that returns a value
 * from a link or a saved page if it is valid, else undefined; `undoable`; `personal`: in no link and no saved page.
 */
const FILE = {
  nodeThreshold: threshold("node_threshold", 0.8), // defaults: graphs/prune.py
  edgeThreshold: threshold("edge_threshold", 0.98),
  keepErrors: { first: () => false, read: () => flag },
  target: { first: () => null, read: (graph) => indexBelow(graph.info.targets.length) }, // number in info.targets; null: all
  sizeBy: { first: () => "influence", read: () => oneOf("influence", "effect") },
  pins: { first: () => [], read: pins }, // nodes and edges, written "token@4 -> L17#264@5"; the last one is shown in the panel
  selected: { first: () => [], read: names, personal: true },
  groups: { first: firstGroups, read: groups, undoable: true }, // [{name, nodes: [name], source?, reason?, label?}]
  labels: { first: () => ({}), read: labels, undoable: true }, // by name without position: the user's since the page was opened
  dismissed: { first: () => [], read: () => listOf(textUpTo(LONGEST_TEXT), MOST), undoable: true }, // names of suggestions
  moved: { first: () => ({}), read: moved, undoable: true }, // by name: [dx, dy] in units of the layout
  collapsed: { first: () => [], read: collapsed, undoable: true }, // [first, last] positions that are one column
  opened: { first: () => [], read: () => listOf(textUpTo(LONGEST_TEXT), MOST), undoable: true }, // cells (L3@5) and groups (group:NAME) shown whole
  view: { first: () => null, read: view }, // {x, y, scale}; null fits
};

/** Per key of the page the same. */
const PAGE = {
  file: { first: () => 0, read: (files) => indexBelow(files.length) },
  layout: { first: (files) => (files[0].isCompared ? "overlay" : "one"), read: (files) => oneOf("one", ...(files[0].isCompared ? ["side", "overlay"] : [])) },
  statuses: { first: () => STATUSES, read: () => listOf(oneOf(...STATUSES), STATUSES.length) }, // of two graphs: which nodes are shown
  tab: { first: () => null, read: () => textUpTo(40) }, // of the drawer; null: closed
  theme: { first: () => "auto", read: () => oneOf("auto", "light", "dark"), personal: true },
};

/** Keys of a file whose changes can be undone. */
export const UNDOABLE = new Set(Object.keys(FILE).filter((key) => FILE[key].undoable));

/** Return the state of a file before a user changes anything. */
export function fileState(graph) {
  return firstOf(FILE, graph);
}

/** Return what a user changed: {page: {…}, files: [{…}, …]} with the keys that differ from the first state. */
export function changesOf(state, files) {
  return { page: changed(PAGE, state.page, files), files: files.map(({ graph }, at) => changed(FILE, state.files[at], graph)) };
}

/** Return the state of changes that anyone can have written; what is invalid keeps its first value. */
export function stateOf(changes, files) {
  const { page, files: parts } = isObject(changes) ? changes : {};
  const part = (at) => (Array.isArray(parts) ? parts[at] : undefined);
  return { page: readAll(PAGE, page, files), files: files.map(({ graph }, at) => readAll(FILE, part(at), graph)) };
}

function firstOf(keys, subject) {
  return Object.fromEntries(Object.entries(keys).map(([key, { first }]) => [key, first(subject)]));
}

function changed(keys, state, subject) {
  const first = firstOf(keys, subject);
  const differs = (key) => !keys[key].personal && JSON.stringify(state[key]) !== JSON.stringify(first[key]);
  return Object.fromEntries(Object.keys(keys).filter(differs).map((key) => [key, state[key]]));
}

function readAll(keys, changes, subject) {
  const given = isObject(changes) ? changes : {};
  const value = (key) => (Object.hasOwn(given, key) && !keys[key].personal ? keys[key].read(subject)(given[key]) : undefined);
  return Object.fromEntries(Object.keys(keys).map((key) => [key, value(key) ?? keys[key].first(subject)]));
}

// --- keys of a file -------------------------------------------------------------------------

function threshold(name, usual) {
  const held = (graph) => graph.info.pruning?.[name] ?? 1; // of a pruned graph: there is no more
  return { first: (graph) => Math.min(usual, held(graph)), read: (graph) => between(0, held(graph)) };
}

function names(graph) {
  return listOf(nameOfNode(graph), MOST);
}

function pins(graph) {
  return listOf((name) => (typeof name === "string" && subjectOf(graph, name) ? name : undefined), MOST);
}

function nameOfNode(graph) {
  return (name) => (typeof name === "string" && graph.nodeOf(name) >= 0 ? name : undefined);
}

function firstGroups(graph) {
  return (graph.info.groups ?? []).map((group) => ({ ...group }));
}

/** What the groups of the file have is kept as it is: also names of nodes that were pruned. */
function groups(graph) {
  const own = firstGroups(graph);
  const [ownNames, ownNodes] = [new Set(own.map(({ name }) => name)), new Set(own.flatMap(({ nodes }) => nodes))];
  const known = nameOfNode(graph);
  const members = listOf((name) => (ownNodes.has(name) ? name : known(name)), MOST);
  const isName = (name) => typeof name === "string" && name.trim() && (ownNames.has(name) || !nameProblem(name));
  const group = (value) => {
    if (!isObject(value) || !isName(value.name)) return undefined;
    const nodes = members(value.nodes) ?? [];
    const texts = GROUP_TEXTS.filter((key) => textUpTo(LONGEST_TEXT)(value[key]) !== undefined).map((key) => [key, value[key]]);
    return nodes.length ? { name: value.name, nodes, ...Object.fromEntries(texts) } : undefined;
  };
  const read = listOf(group, MOST_GROUPS);
  return (value) => uniqueBy(read(value), ({ name }) => name);
}

function uniqueBy(items, key) {
  return items && [...new Map(items.map((item) => [key(item), item])).values()];
}

function labels(graph) {
  const known = new Set(Array.from(graph.kind.keys()).filter((node) => canLabel(graph, node)).map((node) => labelKey(graph, node)));
  const label = (text) => (typeof text === "string" && !nameProblem(text, "label") ? text : undefined);
  return entriesOf((name) => (known.has(name) ? name : undefined), label, MOST);
}

function moved(graph) {
  const step = between(-FARTHEST, FARTHEST);
  const known = nameOfNode(graph);
  return entriesOf((name) => (isGroup(name) ? name : known(name)), tuple(step, step), MOST);
}

function isGroup(name) {
  return typeof name === "string" && name.startsWith("group:") && name.length <= LONGEST_TEXT;
}

/** Spans are ascending and do not overlap. */
function collapsed(graph) {
  const position = indexBelow(graph.info.tokens.length);
  const read = listOf(tuple(position, position), MOST);
  return (value) => {
    let end = -1;
    const spans = (read(value) ?? []).sort((a, b) => a[0] - b[0]);
    return spans.filter(([first, last]) => {
      if (first === null || first <= end || last < first) return false;
      end = last;
      return true;
    });
  };
}

function view() {
  const place = between(-FARTHEST, FARTHEST);
  const read = (value) => tuple(place, place, between(1e-3, 1e3))([value.x, value.y, value.scale]);
  return (value) => {
    const [x, y, scale] = (isObject(value) && read(value)) || [];
    return scale === undefined ? undefined : { x, y, scale };
  };
}

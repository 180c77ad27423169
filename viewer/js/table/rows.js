// Rows of the table: which nodes pass the filters, and in which order.

import { KINDS } from "../data/graph.js";

/** Filters that let every node pass. Layers and influence are bounds, both ends included; null is no bound. */
export const NO_FILTERS = { query: "", kinds: [], firstLayer: null, lastLayer: null, position: null, label: "any", leastInfluence: null, onlyShown: false };

/**
 * Return the nodes that pass the filters, in the order of a column.
 *
 * `view` is {graph, influence, search, hasLabel, isShown}; `sort` is {column, descending}. Nodes without a value are last in both directions, equal
 * ones in node order.
 */
export function rowsOf(view, filters, sort) {
  const tests = testsOf(view, filters);
  const nodes = Array.from(view.graph.kind.keys()).filter((node) => tests.every((test) => test(node)));
  const values = new Map(nodes.map((node) => [node, sort.column.value(node)]));
  const direction = sort.descending ? -1 : 1;
  return nodes.sort((a, b) => compare(values.get(a), values.get(b), direction) || a - b);
}

function testsOf({ graph, influence, search, hasLabel, isShown }, filters) {
  const { query, kinds, firstLayer, lastLayer, position, label, leastInfluence, onlyShown } = filters;
  return [
    query.trim() && search.match(query),
    kinds.length && ((node) => kinds.includes(KINDS[graph.kind[node]])),
    firstLayer !== null && ((node) => graph.layer[node] >= firstLayer),
    lastLayer !== null && ((node) => graph.layer[node] >= 0 && graph.layer[node] <= lastLayer),
    position !== null && ((node) => graph.position[node] === position),
    label !== "any" && ((node) => hasLabel(node) === (label === "with")),
    leastInfluence !== null && ((node) => influence[node] >= leastInfluence),
    onlyShown && isShown,
  ].filter(Boolean);
}

function compare(a, b, direction) {
  const [noA, noB] = [isMissing(a), isMissing(b)];
  if (noA || noB) return noA - noB;
  return direction * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
}

function isMissing(value) {
  return value === null || value === "" || Number.isNaN(value);
}

/** Return rows as CSV: a line of column names, then a line for every node. */
export function csvOf(nodes, columns) {
  const line = (values) => values.map(csvField).join(",");
  return [line(columns.map(({ id, name = id }) => name)), ...nodes.map((node) => line(columns.map(({ value }) => value(node))))].join("\r\n") + "\r\n";
}

/** Texts that a spreadsheet would run as a formula begin with an apostrophe. */
function csvField(value) {
  if (value === null || Number.isNaN(value)) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// What the panel can show: a node, or an edge, written "source -> target". Both are names in the pins of the state.

import { nameProblem } from "./names.js";

/** Between the names of the ends of an edge. */
export const ARROW = " -> ";

/** Return the names of the ends of an edge, or of a node alone. */
export function endsOf(name) {
  return name.split(ARROW);
}

/** Return the name of the edge between nodes with some names. */
export function joinedName(source, target) {
  return source + ARROW + target;
}

/** Return {name, node}, or {name, edge, source, target}; null for a name that the graph does not have. */
export function subjectOf(graph, name) {
  const [source, target] = endsOf(name).map((each) => graph.nodeOf(each));
  if (source < 0 || target < 0) return null;
  if (target === undefined) return { name, node: source };
  const edge = edgeBetween(graph, source, target);
  return edge < 0 ? null : { name, edge, source, target };
}

/** Return a name as `graph.find` of Python reads it: of a target its text, or its number where the text names something else. Both ends of an edge are names of their own, a group has its name. */
export function queryName(graph, name) {
  if (name.startsWith("group:")) return name.slice("group:".length);
  return endsOf(name).map((each) => targetText(graph, each) ?? each).join(ARROW);
}

function targetText(graph, name) {
  const node = graph.nodeOf(name);
  if (node < graph.firstLogit) return null;
  const { targets } = graph.info;
  const text = targets.find((target) => target.node === node)?.label || graph.texts("text")[node];
  const isUnique = targets.filter(({ label }) => label.trim() === text.trim()).length === 1;
  return isUnique && !nameProblem(text) ? text : String(node); // a number names a node too
}

/** Return the name of the edge between two nodes. */
export function edgeName(graph, source, target) {
  return joinedName(graph.nameOf(source), graph.nameOf(target));
}

/** Return the number of the edge between two nodes, or -1. Sources of a row ascend. */
export function edgeBetween(graph, source, target) {
  let [first, after] = [graph.indptr[target], graph.indptr[target + 1]];
  while (first < after) {
    const middle = (first + after) >> 1;
    if (graph.sources[middle] < source) first = middle + 1;
    else after = middle;
  }
  return first < graph.indptr[target + 1] && graph.sources[first] === source ? first : -1;
}

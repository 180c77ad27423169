// Labels of features and error nodes: those of the graph file, and over them the user's since the page was opened.

import { ERROR, FEATURE } from "./graph.js";

/** Return whether a node can have a label; tokens and targets have a text of their own. */
export function canLabel(graph, node) {
  return graph.kind[node] === FEATURE || graph.kind[node] === ERROR;
}

/** Return the key of a node in the labels of the state: its name without position, such as L17#264. */
export function labelKey(graph, node) {
  return graph.nameOf(node).split("@")[0];
}

/** Return the label of a node as {text, source}, null without one; `labels` are those of the file's state. */
export function labelOf(graph, node, labels) {
  if (!canLabel(graph, node)) return null;
  const own = labels[labelKey(graph, node)];
  if (own !== undefined) return own ? { text: own, source: "user" } : null;
  const text = graph.texts("label")[node];
  return text ? { text, source: graph.texts("label_source")[node] } : null;
}

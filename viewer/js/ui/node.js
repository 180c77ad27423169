// Nodes in lists: the sign of their kind, and their text.

import { KINDS } from "../data/graph.js";
import { h } from "./dom.js";

/** What people call the kinds of nodes, by the names in `KINDS`. */
export const KIND_TITLES = { feature: "Feature", error: "Error", token: "Token", logit: "Target" };

/** Return the sign of the kind of a node, with the form that it has in the circuit. */
export function kindSign(graph, node) {
  return signOf(KINDS[graph.kind[node]]);
}

/** Return the same sign for where words beside it say the kind: screen readers pass it over. */
export function kindMark(graph, node) {
  return h("span", { class: `sign ${KINDS[graph.kind[node]]}`, "aria-hidden": true });
}

/** Return the sign of a kind by its name. */
export function signOf(kind) {
  return h("span", { class: `sign ${kind}`, role: "img", "aria-label": KIND_TITLES[kind] });
}

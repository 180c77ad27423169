// The targets of a graph: what the model says next, with probabilities.

import { LOGIT } from "../data/graph.js";
import { counted, percent } from "../ui/format.js";
import { h } from "../ui/dom.js";
import { shareBar } from "./bar.js";
import { nodeButton, tokenText } from "./names.js";
import { exact } from "./number.js";
import { section } from "./section.js";

/** Return the part with the targets: what comes next where all are tokens after one position, else just targets. */
export function targetSection(context, current = -1) {
  const { graph } = context;
  const { targets } = graph.info;
  const isNext = targets.every(({ kind }) => kind === "token") && new Set(targets.map(({ node }) => graph.position[node])).size === 1;
  return section(isNext ? "Next token" : "Targets", counted(targets.length, "target"), targetList(context, current));
}

/** Return a list of the targets; each opens. `current` is the node of the one that is looked at. */
function targetList(context, current = -1) {
  return h("ul", { class: "edge-list" }, context.graph.info.targets.map(({ node, probability }) =>
    h("li", { class: node === current ? "edge-row share-row current" : "edge-row share-row" },
      nodeButton(context, node, { "aria-current": node === current && "true" }), probability !== null && shareBar(probability), probability !== null && probabilityOf(probability))));
}

/** Return the text of an entry of the targets. */
export function targetText({ graph }, { node, label }) {
  return tokenText(graph.texts("text")[node] || label);
}

/** Return what the value is called that the inputs of a node add up to. */
export function valueName(graph, node) {
  if (graph.kind[node] !== LOGIT) return "pre-activation";
  return graph.targetAt(node)?.kind === "token" ? "centred logit" : "value";
}

/** Return a probability, which targets that are no tokens lack. */
export function probabilityOf(value) {
  return value === null || Number.isNaN(value) ? h("span", { class: "faint number" }, "–") : exact(value, percent(value));
}

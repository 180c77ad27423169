// Lists of the inputs and outputs of a node: the strongest first, with signed bars.

import { FEATURE } from "../data/graph.js";
import { count, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { largestOf, signedBar } from "./bar.js";
import { quietButton } from "./buttons.js";
import { nodeButton, nodeText } from "./names.js";
import { decimalsOf, signedValue } from "./number.js";
import { section } from "./section.js";
import { edgeName } from "../state/subject.js";

const FIRST = 10;
const STEP = 50;

/**
 * Return {element, update}: a part with the edges that `edgesOf(graph, node, shown)` gives.
 *
 * Args: title; `none`, what is said where there are no edges; `nameOf(entry)`, the name of its edge. `update` reads the pruning again.
 */
function createEdgeList(context, node, { title, none, edgesOf, nameOf }) {
  const note = h("span");
  const body = h("div");
  const view = { limit: FIRST, all: false, onlyFeatures: false };
  const update = () => {
    const edges = edgesOf(context.graph, node, context.shown);
    const shown = edges.filter((each) => each.shown).length;
    const listed = edges.filter((each) => (view.all || each.shown) && (!view.onlyFeatures || isFeature(context, each)));
    note.textContent = edges.length ? `${count(shown)} of ${count(edges.length)}` : "";
    replaceChildren(body, listed.length > 0 && list(context, listed.slice(0, view.limit), nameOf),
      listed.length === 0 && h("p", { class: "explanation" }, emptyText(view, edges, none)),
      footer(view, listed.length, edges.length - shown, areMixed(context, edges), update));
  };
  update();
  return { element: section(title, note, body), update };
}

/** Return the two lists of a node. */
export function inputList(context, node, edgesOf, none) {
  return createEdgeList(context, node, { title: "Inputs", none, edgesOf, nameOf: (each) => edgeName(context.graph, each.node, node) });
}

/** Return the list of what a node writes to. */
export function outputList(context, node, edgesOf, none) {
  return createEdgeList(context, node, { title: "Outputs", none, edgesOf, nameOf: (each) => edgeName(context.graph, node, each.node) });
}

function list(context, edges, nameOf) {
  const weights = edges.map((each) => each.weight);
  const [largest, decimals] = [largestOf(weights), decimalsOf(weights)];
  return h("ul", { class: "edge-list" }, edges.map((each) => row(context, each, nameOf(each), { largest, decimals })));
}

/** Return a line: the name opens the node, the weight opens the edge. */
function row(context, { node, weight, share, shown }, name, { largest, decimals }) {
  const text = `edge ${nodeText(context, node)}: weight ${weight.toPrecision(4)}, ${percent(share)} of the input of its target`;
  return h("li", { class: shown ? "edge-row" : "edge-row is-hidden", dataset: { edge: name } },
    nodeButton(context, node, { dataset: { key: `node ${name}` } }),
    quietButton(name, "edge-button", () => context.open(name), { title: shown ? text : `${text}; hidden by pruning`, "aria-label": text },
      signedBar(weight, largest), signedValue(weight, decimals), h("span", { class: "number share" }, percent(share))));
}

function emptyText({ onlyFeatures }, edges, none) {
  if (!edges.length) return none;
  return onlyFeatures ? "None of those shown is a feature." : "Pruning hides all of them.";
}

function isFeature({ graph }, { node }) {
  return graph.kind[node] === FEATURE;
}

function areMixed(context, edges) {
  return new Set(edges.map((each) => isFeature(context, each))).size === 2;
}

function footer(view, listed, hidden, isMixed, update) {
  const change = (values) => {
    Object.assign(view, values);
    update();
  };
  const button = (key, text, values) => quietButton(key, "small", () => change(values), {}, text);
  const more = Math.min(STEP, listed - view.limit);
  return h("p", { class: "list-footer" },
    more > 0 && button("more", `${more} more`, { limit: view.limit + STEP }),
    isMixed && button("features", view.onlyFeatures ? "all kinds" : "only features", { onlyFeatures: !view.onlyFeatures }),
    hidden > 0 && button("all", view.all ? "only shown" : `with ${count(hidden)} hidden`, { all: !view.all }));
}

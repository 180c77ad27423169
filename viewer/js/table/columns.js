// Columns of the table: what each shows, how it sorts and what it is in a CSV file.

import { KINDS, NONE } from "../data/graph.js";
import { textOfNode } from "../data/search.js";
import { visible } from "../data/visible.js";
import { h } from "../ui/dom.js";
import { number, percent, signed } from "../ui/format.js";
import { KIND_TITLES, kindSign } from "../ui/node.js";

/**
 * Return the columns for a view {graph, labels, isShown, target, mostInfluence}: {id, title, value(node), cell(node), isNumber}.
 *
 * `value` sorts and is in the CSV file; null and NaN sort last. `cell` returns what the table shows.
 */
export function columnsOf(view) {
  const { graph, labels, isShown, target } = view;
  const text = (node) => textOfNode(graph, node, labels);
  const tokens = graph.info.tokens;
  const columns = [
    { id: "shown", title: "Shown", value: (node) => Number(isShown(node)), cell: (node) => shownMark(isShown(node)) },
    { id: "kind", title: "Kind", value: (node) => KINDS[graph.kind[node]], cell: (node) => [kindSign(graph, node), KIND_TITLES[KINDS[graph.kind[node]]]] },
    { id: "node", title: "Node", value: (node) => graph.nameOf(node), cell: (node) => h("span", { class: "mono" }, graph.nameOf(node)) },
    { id: "label", title: "Label or text", value: text, cell: (node) => h("bdi", {}, visible(text(node))) },
    { id: "layer", title: "Layer", isNumber: true, value: (node) => integer(graph.layer[node]), cell: (node) => integer(graph.layer[node]) ?? "" },
    { id: "position", title: "Position", isNumber: true, value: (node) => integer(graph.position[node]), cell: (node) => position(graph.position[node], tokens) },
    { id: "activation", title: "Activation", isNumber: true, value: (node) => graph.activation[node], cell: (node) => orBlank(graph.activation[node], number) },
    { id: "influence", title: "Influence", isNumber: true, value: (node) => graph.influence[node], cell: (node) => influence(graph.influence[node], view.mostInfluence) },
  ];
  return target === null ? columns : [...columns, effectColumn(graph, target)];
}

function effectColumn(graph, target) {
  const value = (node) => graph.effects("effect", node)?.[target] ?? NaN;
  const title = `Effect on ${visible(graph.info.targets[target].label.trim())}`;
  return { id: "effect", title, isNumber: true, value, cell: (node) => orBlank(value(node), (effect) => h("span", { class: effect < 0 ? "negative" : effect > 0 ? "positive" : "faint" }, signed(effect))) };
}

function shownMark(yes) {
  return h("span", { class: yes ? "shown-mark" : "shown-mark hidden-node", role: "img", "aria-label": yes ? "shown" : "hidden" });
}

function integer(value) {
  return value === NONE ? null : value;
}

function position(value, tokens) {
  return value === NONE ? "" : [h("bdi", { class: "token-text" }, visible(tokens[value] ?? "")), String(value)];
}

function influence(value, most) {
  const bar = h("span", { class: "influence-bar" });
  bar.style.width = `${(60 * value) / (most || 1)}px`;
  return [bar, percent(value)];
}

function orBlank(value, shown) {
  return Number.isFinite(value) ? shown(value) : "";
}

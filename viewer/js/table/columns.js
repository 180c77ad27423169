// Columns of the table: what each shows, how it sorts and what it is in a CSV file.

import { influenceName, targetName } from "../circuit/strength.js";
import { KINDS, NONE } from "../data/graph.js";
import { textOfNode } from "../data/search.js";
import { visible } from "../data/visible.js";
import { h } from "../ui/dom.js";
import { number, percent, signed } from "../ui/format.js";
import { KIND_TITLES, kindSign } from "../ui/node.js";

/**
 * Return the columns for a view {graph, labels, isShown, chosen, target, influence, errors, mostInfluence}: {id, title, value(node), cell(node), isNumber, name?}.
 *
 * `chosen` is the number of the target that the influence is on, null for all; `target` that of the effects, null without any; `errors`
 * are the standard errors of the influence, null where it has none.
 *
 * `value` sorts and is in the CSV file; null and NaN sort last. `cell` returns what the table shows, `name` is that in the
 * CSV file where it is not the id.
 */
export function columnsOf(view) {
  const { graph, labels, isShown, chosen, target } = view;
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
    { id: "influence", title: capitalized(influenceName(graph, chosen)), name: influenceName(graph, chosen), isNumber: true, value: (node) => view.influence[node], cell: (node) => influence(view.influence[node], view.mostInfluence) },
    view.errors && { id: "standard_error", title: "Standard error", isNumber: true, value: (node) => view.errors[node], cell: (node) => percent(view.errors[node]) },
  ].filter(Boolean);
  return target === null ? columns : [...columns, ...effectColumns(graph, target)];
}

/** Return two columns about a target: what a node contributes to it, and how it is expected to change if the node is ablated. */
function effectColumns(graph, target) {
  const name = targetName(graph, target);
  const column = (id, title, kind) => {
    const value = (node) => graph.effects(kind, node)?.[target] ?? NaN;
    const cell = (node) => orBlank(value(node), (effect) => h("span", { class: effect < 0 ? "negative" : effect > 0 ? "positive" : "faint" }, signed(effect)));
    return { id, title, name: `${title[0].toLowerCase()}${title.slice(1)}`, isNumber: true, value, cell };
  };
  return [column("contributes", `Contributes to ${name}`, "effect"), column("if_ablated", `If ablated: ${name}`, "expected_effect")];
}

function capitalized(text) {
  return text[0].toUpperCase() + text.slice(1);
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

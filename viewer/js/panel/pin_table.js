// Pinned nodes beside each other, and the edges between them.

import { FEATURE, LOGIT } from "../data/graph.js";
import { counted, number, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { quietButton } from "./buttons.js";
import { expectedChange, measuredOf } from "./effects.js";
import { influenceValue } from "./estimates.js";
import { nodeButton, shortName } from "./names.js";
import { decimalsOf, exact, signedText, signedValue } from "./number.js";
import { section } from "./section.js";
import { edgeBetween, edgeName, subjectOf } from "../state/subject.js";

/** Return {element, update} of all pins of a file. */
export function pinTable(context) {
  const body = h("div");
  const update = () => replaceChildren(body, parts(context));
  update();
  return { element: h("div", {}, h("header", { class: "subject" }, h("h2", {}, "Pinned nodes")), body), update };
}

function parts(context) {
  const nodes = pinnedNodes(context);
  return [section("Numbers", counted(nodes.length, "node"), table(context, nodes)), edgesBetween(context, nodes)];
}

/** Return the pinned nodes, and the ends of pinned edges, in order of pinning. */
function pinnedNodes({ graph, state }) {
  const subjects = state.pins.map((name) => subjectOf(graph, name)).filter(Boolean);
  return [...new Set(subjects.flatMap((each) => (each.node === undefined ? [each.source, each.target] : [each.node])))];
}

function table(context, nodes) {
  const rows = nodes.map((node) => numbersOf(context, node));
  const decimals = decimalsOf(rows.flatMap(({ expected, measured }) => [expected, measured]));
  const change = (value) => signedText(value, decimals);
  const all = [[context.influenceName, "influence"], ["activation", "activation", number], ["if ablated", "expected", change], ["measured, if ablated", "measured", change]];
  const columns = all.filter(([, name]) => rows.some((row) => !Number.isNaN(row[name])));
  const shown = ({ node }, value, textOf) => (textOf ? exact(value, textOf(value)) : influenceValue(context, node));
  const cell = (row, value, textOf) => h("td", {}, Number.isNaN(value) ? h("span", { class: "faint number" }, "–") : shown(row, value, textOf));
  return h("table", { class: "pin-table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "node"), columns.map(([title]) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, rows.map((row) => h("tr", { dataset: { node: context.graph.nameOf(row.node) } },
      h("th", { scope: "row" }, nodeButton(context, row.node, { isShort: true, dataset: { key: `pin ${row.node}` } })),
      columns.map(([, name, textOf]) => cell(row, row[name], textOf))))));
}

function numbersOf({ graph, influence, state }, node) {
  return {
    node,
    influence: graph.kind[node] === LOGIT ? NaN : influence[node],
    activation: graph.kind[node] === FEATURE ? graph.activation[node] : NaN,
    expected: expectedChange(graph, node, state.target)?.value ?? NaN,
    measured: measuredOf(graph, node)?.measured ?? NaN,
  };
}

function edgesBetween(context, nodes) {
  const { graph } = context;
  const pairs = nodes.flatMap((source) => nodes.map((target) => edgeOf(graph, source, target)));
  const found = pairs.filter(Boolean).sort((a, b) => b.share - a.share);
  const decimals = decimalsOf(found.map(({ weight }) => weight));
  return section("Edges between them", String(found.length), h("ul", { class: "edge-list" }, found.map((each) => pairRow(context, each, decimals))));
}

function pairRow(context, { source, target, edge, weight, share }, decimals) {
  const open = () => context.open(edgeName(context.graph, source, target));
  const pair = h("span", { class: "node-pair" }, shortName(context, source), "→", shortName(context, target));
  return h("li", { class: "edge-row pair-row" }, quietButton(`between ${edge}`, "node-button", open, {}, pair),
    signedValue(weight, decimals), h("span", { class: "number share" }, percent(share)));
}

function edgeOf(graph, source, target) {
  const edge = edgeBetween(graph, source, target);
  const weight = graph.weights[edge];
  return edge < 0 ? null : { source, target, edge, weight, share: Math.abs(weight) / graph.rowSums[target] };
}

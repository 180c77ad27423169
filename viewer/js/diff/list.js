// What differs most: nodes and edges by the change of their influence, similarity in numbers, and cautions.

import { h, replaceChildren } from "../ui/dom.js";
import { count, percent, signed } from "../ui/format.js";
import { influenceBars } from "./card.js";
import { STATUSES } from "./comparison.js";
import { statusSign } from "./look.js";
import { unitLabel } from "./model.js";

const ROWS = 100; // of nodes, and of edges
const MATCHES = {
  feature: "Features correspond where they are the same feature of the same dictionary.",
  label: "Features correspond where their labels are the same.",
  group: "Features correspond where they are in groups of the same name.",
  site: "All features of a layer and a position correspond to each other.",
};
const INFLUENCE_HERE = "Both graphs are measured alike: along the edges that their files have, on the targets that are compared, whose weights add up to 1.";
const PARTS = { nodes: "all nodes", features: "features", errors: "error nodes", tokens: "tokens", sites: "features by layer and position", edges: "edges" };

/** Return {element, refresh}; `open` is called with the unit of a row that a user clicks, `point` with the one pointed at or null. */
export function createDifferences(app, comparison, { open, point }) {
  const [nodes, edges] = [h("tbody"), h("tbody")];
  const element = h("article", { class: "differences", "aria-label": "Differences" },
    h("section", { class: "differences-part", "aria-label": "Nodes that differ most" }, h("h3", {}, "Nodes that differ most"),
      h("p", { title: INFLUENCE_HERE }, "Influence here is along the edges of the two files; the details show that in each traced graph."),
      table(["", "Node", "Label", "Influence here", "Change, points"], nodes)),
    h("div", { class: "differences-column" },
      similarity(comparison),
      cautions(comparison),
      h("section", { class: "differences-part", "aria-label": "Edges that differ most" }, h("h3", {}, "Edges that differ most"), table(["", "From", "To", "In A", "In B", "Change, points"], edges))));
  const refresh = () => {
    const { statuses } = app.store.page;
    const isShown = (status) => statuses.includes(STATUSES[status].name);
    replaceChildren(nodes, ...nodeRows(comparison, isShown, open, point));
    replaceChildren(edges, ...edgeRows(comparison, isShown, open, point));
  };
  refresh();
  return { element, refresh };
}

function table(titles, body) {
  return h("div", { class: "scroll-x" }, h("table", { class: "difference-table" }, h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)))), body));
}

function nodeRows(comparison, isShown, open, point) {
  const { status, name } = comparison.units;
  const units = Array.from(status.keys()).filter((unit) => comparison.kinds[unit] !== "logit" && isShown(status[unit]) && comparison.change(unit) !== 0);
  units.sort((a, b) => Math.abs(comparison.change(b)) - Math.abs(comparison.change(a)) || a - b);
  const largest = units.slice(0, ROWS).reduce((most, unit) => Math.max(most, comparison.larger(unit)), 0) || 1;
  return units.slice(0, ROWS).map((unit) => h("tr", { onpointerenter: () => point(unit), onpointerleave: () => point(null) },
    h("td", {}, statusSign(status[unit])),
    h("td", {}, unitButton(unit, name[unit], open)),
    h("td", { class: "long" }, h("bdi", {}, unitLabel(comparison, unit))),
    h("td", {}, influenceBars(comparison, unit, largest)),
    h("td", { class: "number" }, points(comparison.change(unit)))));
}

function edgeRows(comparison, isShown, open, point) {
  const { source, target, status, influence_a: a, influence_b: b, weight_a: weightA, weight_b: weightB } = comparison.edges;
  const change = (edge) => b[edge] - a[edge];
  const edges = Array.from(source.keys()).filter((edge) => isShown(status[edge]) && change(edge) !== 0);
  edges.sort((x, y) => Math.abs(change(y)) - Math.abs(change(x)) || x - y);
  const { name } = comparison.units;
  const effect = (weight) => (weight === 0 ? "–" : signed(weight));
  return edges.slice(0, ROWS).map((edge) => h("tr", { onpointerenter: () => point(source[edge]), onpointerleave: () => point(null) },
    h("td", {}, statusSign(status[edge])),
    h("td", {}, unitButton(source[edge], name[source[edge]], open)),
    h("td", {}, unitButton(target[edge], name[target[edge]], open)),
    h("td", { class: "number" }, effect(weightA[edge])),
    h("td", { class: "number" }, effect(weightB[edge])),
    h("td", { class: "number" }, points(change(edge)))));
}

function unitButton(unit, name, open) {
  return h("button", { type: "button", class: "quiet code", title: "Pin this node", onclick: () => open(unit) }, name);
}

/** Return a change of influence in percentage points, with its sign. */
function points(change) {
  return `${change < 0 ? "−" : "+"}${percent(Math.abs(change)).replace("%", "")}`;
}

function similarity(comparison) {
  const rows = comparison.facts.similarity;
  const titles = ["", "Alike", "Rank correlation", ...STATUSES.map((_, status) => statusSign(status))];
  const value = (row) => [PARTS[row.part] ?? row.part, row.jaccard.toFixed(3), row.correlation === null ? "–" : row.correlation.toFixed(3), ...STATUSES.map(({ name }) => count(row[name]))];
  return h("section", { class: "differences-part", "aria-label": "How alike they are" },
    h("h3", {}, "How alike they are"),
    h("p", {}, `${MATCHES[comparison.facts.match]} “Alike” is the weighted Jaccard index of influence; “changed” is a relative change of at least ${percent(comparison.facts.min_change)}.`),
    h("div", { class: "scroll-x" }, h("table", { class: "difference-table" },
      h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...value(row).map((text, at) => h("td", { class: at > 0 && "number" }, text))))))));
}

function cautions(comparison) {
  const { cautions: texts } = comparison.facts;
  return texts.length > 0 && h("section", { class: "differences-part", "aria-label": "Cautions" }, h("h3", {}, "Cautions"), h("ul", { class: "cautions" }, ...texts.map((text) => h("li", {}, text))));
}

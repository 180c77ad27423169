// What pruning hides, and both scores: of the graph as it was traced, of what is shown, and of the selection.

import { FEATURE } from "../data/graph.js";
import { count, counted, intervalText, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";

const DIGITS = 2;
const SCORES = [
  ["replacement", "Replacement", "Share of the influence that comes from tokens, not from error nodes"],
  ["completeness", "Completeness", "Mean share of the input that does not come from error nodes, weighted by influence"],
];

/** Return a sentence about what a result of the pruner hides. */
export function hiddenText({ hidden, nodes }) {
  if (!hidden.nodes) return `All ${counted(nodes.length, "node")} shown`;
  return `${count(hidden.nodes)} of ${count(nodes.length)} nodes hidden, holding ${percent(hidden.share)} of the influence`;
}

/** Return {element, render}; `render(graph, result, selected)` takes the scores of the selection, or null without one. */
export function createSummary() {
  const [hidden, scores] = [h("p", { class: "hidden-share" }), h("dl", { class: "scores" })];
  return {
    element: h("div", { class: "pruning-summary" }, hidden, scores),
    render(graph, result, selected) {
      const notes = [chance(graph, result) ?? uncertain(graph, result), ...smaller(graph)].filter(Boolean);
      replaceChildren(hidden, hiddenText(result), notes.map(([text, title]) => [" ", h("span", { class: "pruning-note", title }, text)]));
      const hasFeatures = result.nodes.some((isShown, node) => isShown && graph.kind[node] === FEATURE);
      replaceChildren(scores, SCORES.map(([name, title, help]) => [
        h("dt", { title: help }, title),
        h("dd", {}, hasFeatures ? h("b", {}, written(result.scores[name])) : h("span", { title: `${written(result.scores[name])}: tokens and error nodes alone` }, "no features are shown")),
        h("dd", { title: intervalText(graph.info.traced.scores[`${name}_interval`]) }, `traced ${written(graph.info.traced.scores[name])}`, intervalOf(graph.info.traced.scores, name)),
        h("dd", { title: selected && intervalText(selected[`${name}_interval`]) }, selected && `selection ${written(selected[name])}`),
      ]));
    },
  };
}

/** Return a note on nodes that may pass the threshold by chance, in a sampled graph now or where it was pruned; null for other graphs. */
function chance({ info }, { sampling, certainty }) {
  const counts = sampling ?? info.pruning?.sampling;
  if (!counts) return null;
  const [threshold, bounds] = [sampling ? "the node threshold" : "the threshold to which this graph was pruned", certainty ?? info.pruning?.certainty];
  const certain = bounds?.inside ? ` Whatever the missing rows contain, ${count(bounds.inside)} pass.` : "";
  const title = `${counted(counts.ranked, "node")} pass ${threshold}. For ${count(counts.uncertain)} around it, chance decides: it lies inside of their 95% intervals.${certain}`;
  return [`${count(counts.uncertain)} uncertain`, title];
}

/** Return a note on nodes that are undecided in a graph without some of its rows, now or where it was pruned. */
function uncertain(graph, result) {
  const bounds = result.certainty ?? graph.info.pruning?.certainty;
  if (!bounds?.undecided) return null;
  const total = bounds.inside + bounds.outside + bounds.undecided;
  const threshold = result.certainty ? "the threshold" : "the threshold to which this graph was pruned";
  return [
    total > graph.size ? `${count(bounds.undecided)} of the ${count(total)} traced undecided` : `${count(bounds.undecided)} undecided`,
    `The trace left out the rows of some features. Whatever they contain, ${count(bounds.inside)} nodes pass ${threshold}; ` +
      `${count(bounds.undecided)} may pass or fail.`,
  ];
}

/** Return notes on what the file lacks of the graph that was traced. */
function smaller({ info }) {
  const traced = `The trace had ${count(info.traced.nodes)} nodes. `;
  const pruned = ({ node_threshold: node, edge_threshold: edge }) =>
    `${traced}The file has what was left at the thresholds ${node} and ${edge}, where the sliders end: \`cotrace trace --full\` keeps all.`;
  return [
    info.pruning && ["of a pruned graph", pruned(info.pruning)],
    info.subgraph && ["of a subgraph", `${traced}What the subgraph lacks counts as error in both scores.`],
  ];
}

/** Return the interval of a score that is an estimate, null for others. */
function intervalOf(scores, name) {
  const interval = scores[`${name}_interval`];
  return interval ? ` (${interval.map(written).join("–")})` : null;
}

function written(score) {
  return Number.isFinite(score) ? score.toFixed(DIGITS) : "–";
}

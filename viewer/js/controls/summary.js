// What pruning hides, and both scores: of the graph as it was traced, of what is shown, and of the selection.

import { count, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";

const DIGITS = 2;
const SCORES = [
  ["replacement", "Replacement", "Share of the influence that comes from tokens, not from error nodes"],
  ["completeness", "Completeness", "Mean share of the input that does not come from error nodes, weighted by influence"],
];

/** Return a sentence about what a result of the pruner hides. */
export function hiddenText({ hidden, nodes }) {
  if (!hidden.nodes) return `All ${count(nodes.length)} nodes are shown`;
  return `${count(hidden.nodes)} of ${count(nodes.length)} nodes hidden, holding ${percent(hidden.share)} of the influence`;
}

/** Return {element, render}; `render(graph, result, selected)` takes the scores of the selection, or null without one. */
export function createSummary() {
  const [hidden, certainty] = [h("span"), h("span", { class: "certainty" })];
  const scores = h("dl", { class: "scores" });
  return {
    element: h("div", { class: "pruning-summary" }, h("p", { class: "hidden-share" }, hidden, " ", certainty), scores),
    render(graph, result, selected) {
      hidden.textContent = hiddenText(result);
      const bounds = result.certainty ?? graph.info.pruning?.certainty;
      certainty.hidden = !bounds?.undecided;
      if (bounds) showCertainty(certainty, bounds, result.certainty === null);
      replaceChildren(scores, SCORES.map(([name, title, help]) => [
        h("dt", { title: help }, title),
        h("dd", {}, h("b", {}, written(result.scores[name]))),
        h("dd", {}, `traced ${written(graph.info.traced.scores[name])}`),
        h("dd", {}, selected && `selection ${written(selected[name])}`),
      ]));
    },
  };
}

/** Say how many nodes are undecided in a graph without some of its rows, now or where it was pruned. */
function showCertainty(element, { inside, undecided }, isEarlier) {
  element.textContent = `${count(undecided)} undecided`;
  element.title =
    `The trace left out the rows of some features. Whatever they contain, ${count(inside)} nodes pass the threshold` +
    `${isEarlier ? " to which this graph was pruned" : ""}; ${count(undecided)} may pass or fail.`;
}

function written(score) {
  return Number.isFinite(score) ? score.toFixed(DIGITS) : "–";
}

// What a node reads, added up: every part of its row, and the value that they must give.

import { LOGIT } from "../data/graph.js";
import { count, number } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { largestOf, signedBar } from "./bar.js";
import { rowSum } from "./edges.js";
import { decimalsOf, signedText, signedValue } from "./number.js";
import { explanation, section } from "./section.js";

/** Return {element, update} for a node; null for one without a row. */
export function createRowSum(context, node) {
  if (!context.graph.computed[node]) return null;
  const body = h("div");
  const note = h("span");
  const update = () => {
    const sum = rowSum(context.graph, node, context.shown);
    note.textContent = Number.isNaN(sum.value) ? "" : sum.closes ? "✓ adds up" : "does not add up";
    replaceChildren(body, table(sum, context.graph.kind[node] === LOGIT ? "centred logit" : "pre-activation"), remarks(sum));
  };
  update();
  return { element: section("Sum of the inputs", note, body), update };
}

function table(sum, valueName) {
  const parts = [
    ["inputs shown", sum.shown.sum, sum.shown.count],
    sum.hidden.count > 0 && ["inputs hidden", sum.hidden.sum, sum.hidden.count],
    sum.dropped !== 0 && ["dropped before", sum.dropped],
    !Number.isNaN(sum.bias) && ["bias", sum.bias],
  ].filter(Boolean);
  const [decimals, largest] = [decimalsOf([...parts.map(([, value]) => value), sum.value]), largestOf(parts.map(([, value]) => value))];
  const line = ([name, value, edges], total = false) => h("tr", { class: total ? "total" : null, dataset: { part: name } },
    h("th", { scope: "row" }, name, edges !== undefined && h("span", { class: "faint number" }, ` ${count(edges)}`)),
    h("td", {}, !total && signedBar(value, largest)), h("td", {}, signedValue(value, decimals)));
  const value = Number.isNaN(sum.value) ? ["sum", sum.sum] : [valueName, sum.closes ? sum.value : sum.sum];
  return h("table", { class: "sum-table" }, h("tbody", {}, parts.map((part) => line(part))), h("tfoot", {}, line(value, true)));
}

function remarks({ value, sum, closes, leftOut }) {
  if (Number.isNaN(value)) return explanation("The file does not say what these must add up to.");
  if (!closes) return explanation(`The file says ${signedText(value)}: it lacks ${signedText(value - sum)} of the row.`);
  return leftOut > 0 && explanation(`What was dropped holds edges of ${number(leftOut)} in absolute weight, from nodes that this subgraph leaves out.`);
}

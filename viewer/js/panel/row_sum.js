// What a node reads, added up: every part of its row, and the value that they must give.

import { count, number } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { rowSum } from "./edges.js";
import { signedText } from "./number.js";
import { explanation, section } from "./section.js";
import { sumTable } from "./sum_table.js";
import { valueName } from "./targets.js";

/** Return {element, update} for a node; null for one without a row. */
export function createRowSum(context, node) {
  const { graph } = context;
  if (!graph.computed[node]) return null;
  const [body, note] = [h("div"), h("span")];
  const update = () => {
    const sum = rowSum(graph, node, context.shown);
    note.textContent = Number.isNaN(sum.value) ? "" : sum.closes ? "✓ adds up" : "does not add up";
    replaceChildren(body, sumTable(partsOf(sum), totalOf(sum, valueName(graph, node))), remark(sum));
  };
  update();
  return { element: section("Sum of the inputs", note, body), update };
}

function partsOf({ shown, hidden, dropped, bias }) {
  return [
    { name: "inputs shown", value: shown.sum, note: count(shown.count) },
    hidden.count > 0 && { name: "inputs hidden", value: hidden.sum, note: count(hidden.count) },
    dropped !== 0 && { name: "dropped before", value: dropped },
    !Number.isNaN(bias) && { name: "bias", value: bias },
  ].filter(Boolean);
}

function totalOf({ sum, value, closes }, name) {
  if (Number.isNaN(value)) return { name: "sum", value: sum };
  return { name, value: closes ? value : sum };
}

function remark({ value, sum, closes, leftOut }) {
  if (Number.isNaN(value)) return explanation("The file does not say what these must add up to.");
  if (!closes) return explanation(`The file says ${signedText(value)}: it lacks ${signedText(value - sum)} of the row.`);
  const left = `What was dropped holds edges of ${number(leftOut)} in absolute weight, from nodes that this subgraph leaves out.`;
  return leftOut > 0 && explanation(left);
}

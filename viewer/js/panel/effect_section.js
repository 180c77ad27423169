// Effects of a node: expected of every target, and measured where the graph was validated.

import { number, percent } from "../ui/format.js";
import { h } from "../ui/dom.js";
import { largestOf, signedBar, sizeBar } from "./bar.js";
import { effectsOf, measuredOf } from "./effects.js";
import { decimalsOf, exact, signedText, signedValue } from "./number.js";
import { explanation, section } from "./section.js";
import { targetText } from "./targets.js";

const FIRST = 5;
const AGREEMENT = {
  agrees: ["✓", "agrees", "The measured change agrees with the estimate"],
  "same direction": ["≈", "same direction", "The measured change has the direction of the estimate, but another size"],
  opposite: ["✗", "opposite", "The measured change has the opposite direction"],
  nothing: ["✗", "no agreement", "One of the two is zero"],
};

/** Return the part about a node's effects on the targets; null where the file knows none. */
export function effectSection(context, node) {
  const effects = effectsOf(context.graph, node);
  const measured = measuredOf(context.graph, node);
  if (!effects && !measured) return null;
  const [sign, word] = measured ? AGREEMENT[measured.agreement] : [];
  return section("Effects on the targets", measured && `${sign} ${word}`, effects && effectTable(context, effects), measured && measuredPart(measured));
}

function effectTable(context, effects) {
  const chosen = context.state.target;
  const order = effects.targets.map((each, number) => ({ ...each, number })).sort((a, b) => b.target.weight - a.target.weight || a.number - b.number);
  const values = order.flatMap((each) => [each.total, each.expected]);
  const decimals = decimalsOf(values);
  const row = (name, { total, expected }, properties = {}) => h("tr", properties, h("th", { scope: "row" }, name),
    h("td", {}, signedValue(total, decimals)), h("td", {}, signedValue(expected, decimals)));
  const rows = order.map((each, at) => row(targetName(context, each.target), each, {
    class: each.number === chosen ? "chosen" : null, hidden: at >= FIRST && each.number !== chosen, dataset: { target: each.number } }));
  return h("table", { class: "effect-table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "target"), column("contributes", "Total effect along all paths, with attention, norms and active features frozen"),
      column("if ablated", "Change of the target that is expected when the node is ablated, with attention and norms responding"))),
    h("tbody", {}, rows, rows.length > FIRST && moreRow(rows)), rows.length > 1 && h("tfoot", {}, row("weighted mean", effects, { dataset: { target: "mean" } })));
}

function moreRow(rows) {
  const row = h("tr", {}, h("td", { colspan: 3 }, h("button", { type: "button", class: "quiet small", dataset: { key: "more-targets" }, onclick: () => {
    for (const each of rows) each.hidden = false;
    row.remove();
  } }, `${rows.length - FIRST} more`)));
  return row;
}

function targetName(context, target) {
  return [targetText(context, target), target.probability !== null && h("span", { class: "faint number" }, ` ${percent(target.probability)}`)];
}

function column(name, title) {
  return h("th", { scope: "col", title }, name);
}

function measuredPart({ measured, estimate, control, agreement, kl, first_order_none: live }) {
  const values = [estimate, measured, control ?? 0];
  const [decimals, largest] = [decimalsOf(values), largestOf(values)];
  const line = (part, name, bar, value) => h("tr", { dataset: { part } }, h("th", { scope: "row" }, name), h("td", {}, bar), h("td", {}, value));
  const hasControl = control !== null && control !== undefined;
  return h("div", { class: "measured" }, h("h4", {}, "Ablated in the model"),
    h("table", { class: "sum-table" }, h("tbody", {},
      line("estimate", live === undefined || live === null ? "expected along edges" : "expected", signedBar(estimate, largest), signedValue(estimate, decimals)),
      line("measured", "measured", signedBar(measured, largest), signedValue(measured, decimals)),
      hasControl && line("control", "random features", sizeBar(control, largest), exact(control, `±${signedText(control, decimals).slice(1)}`)))),
    explanation(sentence(measured, estimate, agreement), hasControl && control > 0 ? times(measured, control) : "",
      ` The next token's distribution moves by ${number(kl)} nats.`));
}

function sentence(measured, estimate, agreement) {
  const text = AGREEMENT[agreement][2];
  return agreement === "agrees" && estimate !== 0 ? `${text}: ${(measured / estimate).toPrecision(2)} times as large.` : `${text}.`;
}

function times(measured, control) {
  return ` It is ${Number((Math.abs(measured) / control).toPrecision(2))} times that of random features of the same size.`;
}

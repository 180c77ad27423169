// Effects of a node: expected of every target, and measured where the graph was validated.

import { number, percent } from "../ui/format.js";
import { h } from "../ui/dom.js";
import { quietButton } from "./buttons.js";
import { effectsOf, measuredOf } from "./effects.js";
import { decimalsOf, signedValue } from "./number.js";
import { explanation, section } from "./section.js";
import { sumTable } from "./sum_table.js";
import { targetText } from "./targets.js";

const FIRST = 5;
const CONTRIBUTES = "Total effect along all paths, with attention, norms and active features frozen";
const IF_ABLATED = "Change of the target that is expected when the node is ablated, with attention and norms responding";

/** Return the part about a node's effects on the targets; null where the file knows none. */
export function effectSection(context, node) {
  const effects = effectsOf(context.graph, node);
  const measured = measuredOf(context.graph, node);
  if (!effects && !measured) return null;
  const agreement = measured?.agreement;
  const note = agreement ? `${agreement.sign} ${agreement.text}` : measured && "not comparable";
  return section("Effects on the targets", note, effects && effectTable(context, effects), measured && measuredPart(measured));
}

/** Return a table of the targets, the heaviest first; those after the first few show when they are asked for. */
function effectTable(context, effects) {
  const targets = effects.targets.map((each, at) => ({ ...each, at })).sort((a, b) => b.target.weight - a.target.weight || a.at - b.at);
  const decimals = decimalsOf(targets.flatMap((each) => [each.total, each.expected]));
  const rows = targets.map((each, rank) => {
    const isChosen = each.at === context.state.target;
    const row = effectRow(targetName(context, each.target), each, each.at, decimals);
    row.classList.toggle("chosen", isChosen);
    row.hidden = rank >= FIRST && !isChosen;
    return row;
  });
  const column = (name, title) => h("th", { scope: "col", title }, name);
  return h("table", { class: "effect-table" },
    h("thead", {}, h("tr", {}, column("target"), column("contributes", CONTRIBUTES), column("if ablated", IF_ABLATED))),
    h("tbody", {}, rows, rows.length > FIRST && moreRow(rows)),
    rows.length > 1 && h("tfoot", {}, effectRow("weighted mean", effects, "mean", decimals)));
}

function effectRow(name, { total, expected }, target, decimals) {
  const cell = (value) => h("td", {}, signedValue(value, decimals));
  return h("tr", { dataset: { target } }, h("th", { scope: "row" }, name), cell(total), cell(expected));
}

function moreRow(rows) {
  const show = () => {
    for (const each of rows) each.hidden = false;
    row.remove();
  };
  const row = h("tr", {}, h("td", { colspan: 3 }, quietButton("more-targets", "small", show, {}, `${rows.length - FIRST} more`)));
  return row;
}

function targetName(context, target) {
  const share = target.probability !== null && h("span", { class: "faint number" }, ` ${percent(target.probability)}`);
  return [targetText(context, target), share];
}

function measuredPart({ measured, estimate, isLive, control, agreement, kl }) {
  const parts = [
    { name: isLive ? "expected" : "expected along edges", value: estimate },
    { name: "measured", value: measured },
    control !== null && { name: "random features", value: control, isSize: true },
  ];
  return h("div", { class: "measured" }, h("h4", {}, "Ablated in the model"), sumTable(parts.filter(Boolean)),
    explanation(agreementText(measured, estimate, agreement), control > 0 && controlText(measured, control),
      ` The next token's distribution moves by ${number(kl)} nats.`));
}

function agreementText(measured, estimate, agreement) {
  if (!agreement) return "One of the two is zero.";
  const { kind, text } = agreement;
  const times = kind === "opposite" ? "" : `, ${(measured / estimate).toPrecision(2)} times as large`;
  return `The measured change, beside the expected one: ${text}${times}.`;
}

function controlText(measured, control) {
  return ` It is ${Number((Math.abs(measured) / control).toPrecision(2))} times that of random features of the same size.`;
}

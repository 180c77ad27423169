// Where the answer's value comes from: effects for it right of the axis, effects against it left.

import { h } from "../ui/dom.js";
import { number } from "../ui/format.js";
import { groupedBy, logits, share, titlesOf } from "./format.js";
import { foldedTable } from "./table.js";

const LEAST_NAMED = 0.14; // of the bar's width
const LEAST_NUMBERED = 0.06;
const LEAST_PART = 0.005; // of a part that is listed; the unknown part always is

/** Return the ledger of the answer as a bar with signed sums, or null without one. */
export function ledgerSection(report) {
  const cells = report.sources;
  if (!cells.length) return null;
  const answer = report.segments.filter(({ role }) => role === "answer").at(-1);
  return h("section", { class: "report-part report-ledger", "aria-label": "Ledger" },
    h("h3", {}, "Where the answer comes from"),
    h("p", {}, report.introductions.sources),
    divergingBar(cells, titlesOf(report)),
    h("p", { class: "ledger-sum" }, sums(cells, answer)),
    parts(cells),
    foldedTable("All cells", cells),
  );
}

/** Return what the cells add up to: for the answer, against it, and both. */
function sums(cells, answer) {
  const total = (sign) => cells.reduce((sum, { effect }) => (Math.sign(effect) === sign ? sum + effect : sum), 0);
  const [up, down] = [total(1), total(-1)];
  const pair = answer?.foil ? ` “${answer.value}” over “${answer.foil}”` : "";
  return [h("span", {}, `${logits(up)} for, ${logits(down)} against: `), h("strong", {}, `${logits(up + down)} logits`), pair];
}

function divergingBar(cells, titles) {
  const [against, forIt] = [cells.filter(({ effect }) => effect < 0), cells.filter(({ effect }) => effect > 0)];
  const size = (side) => side.reduce((sum, { effect }) => sum + Math.abs(effect), 0);
  const total = size(against) + size(forIt) || 1;
  const half = (side, name) => {
    const element = h("div", { class: `ledger-half ${name}` }, ...side.map((cell) => cellOf(cell, total, titles)));
    element.style.flexGrow = size(side);
    return element;
  };
  return h("div", { class: "ledger", role: "group", "aria-label": "Effects of the parts of the prompt on the answer, in logits" },
    h("span", { class: "ledger-end" }, "against"), half(against.reverse(), "against"), half(forIt, "for"), h("span", { class: "ledger-end" }, "for"));
}

function cellOf(cell, total, titles) {
  const words = `${cell.cell}: ${logits(cell.effect)} logits, ${share(cell.share)} of the absolute effects (gross ${number(cell.gross)})`;
  const width = Math.abs(cell.effect) / total;
  const element = h("span", { class: "ledger-cell", role: "img", "aria-label": words, title: words, dataset: fillOf(cell) },
    width >= LEAST_NUMBERED && h("span", {}, width >= LEAST_NAMED && `${titles.get(cell.segment) ?? cell.source} `, logits(cell.effect)));
  element.style.flexGrow = Math.abs(cell.effect);
  return element;
}

function fillOf({ source, route }) {
  return { source: ["content", "question", "hint", "unknown"].includes(source) ? source : "other", route: route ?? "" };
}

/** Return the legend: each part in plain words, with its share and its signed sum. */
function parts(cells) {
  const byPart = groupedBy(cells, "part");
  const sum = (list, key) => list.reduce((total, cell) => total + cell[key], 0);
  const shown = [...byPart].filter(([name, list]) => sum(list, "share") >= LEAST_PART || name === "unknown");
  return h("ul", { class: "ledger-parts" }, ...shown.map(([name, list]) => h("li", {},
    h("span", { class: "swatch", dataset: fillOf(list[0]) }), `${name} ${share(sum(list, "share"))}`, h("span", { class: "quiet" }, ` ${logits(sum(list, "effect"))}`))));
}

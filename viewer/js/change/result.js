// What an edit of the model changed: targets, the next token, and both texts side by side.

import { agreementOf } from "../data/agreement.js";
import { printableLines, visible } from "../data/visible.js";
import { h } from "../ui/dom.js";
import { number, percent, signed } from "../ui/format.js";
import { changedTokens } from "./compare_tokens.js";

const EXPECTED_BY = {
  effects: "Expected: first-order effects of the live model, saved in the graph, added up over the nodes.",
  edges: "Expected: along the edges of this graph; what was pruned is missing.",
};
const UNEXPECTED = "The graph predicts nothing for these edits: a token is replaced, all positions are edited, or a node is not in it.";
const LONGEST_PROMPT = 200; // characters of its end that are shown

/** Return the elements of a result, that of cotrace/cli/model_changes.py; `prompt` is the text before the new tokens. */
export function resultView(result, prompt) {
  return [texts(result, prompt), h("div", { class: "change-numbers" }, targetTable(result), nextTokens(result))];
}

/** Return the change of a result in a few words: cold 58% → 12%. */
export function headline({ targets, likeliest }) {
  const target = targets.find(({ probability_before: before }) => before !== undefined);
  if (target) return `${visible(target.label)} ${percent(target.probability_before)} → ${percent(target.probability_after)}`;
  const row = likeliest[0];
  return `${visible(row.text)} ${percent(row.before)} → ${percent(row.after)}`;
}

// --- targets: measured beside expected ---------------------------------------------------------

function targetTable({ targets, expected_by: basis, idle }) {
  const hasProbabilities = targets.some(({ probability_before: before }) => before !== undefined);
  const heads = ["Target", "Measured", "Expected", hasProbabilities && "Probability"].filter(Boolean);
  return h("section", {},
    h("h3", {}, "Change of the targets"),
    h("table", { class: "change-table" },
      h("thead", {}, h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: at ? "number" : null }, head)))),
      h("tbody", {}, targets.map((target) => targetRow(target, hasProbabilities)))),
    h("p", { class: "change-note muted" }, basis ? EXPECTED_BY[basis] : UNEXPECTED),
    idle.length > 0 && h("p", { class: "change-note" }, `${idle.join(", ")}: not active here, so that the edit did nothing.`));
}

function targetRow({ label, measured, expected, probability_before: before, probability_after: after }, hasProbabilities) {
  return h("tr", {},
    h("th", { scope: "row", class: "change-token" }, visible(label)),
    h("td", { class: "number" }, amount(measured)),
    h("td", { class: "number" }, amount(expected), " ", agreement(measured, expected)),
    hasProbabilities && h("td", { class: "number" }, before === undefined ? "–" : `${percent(before)} → ${percent(after)}`));
}

function amount(value) {
  if (value === null) return h("span", { class: "faint" }, "–");
  return h("span", { class: value < 0 ? "negative" : "positive" }, signed(value));
}

/** Return how a measured change agrees with the expected one, in a sign and words; nothing where one of them is missing or rounding. */
function agreement(measured, expected) {
  const found = agreementOf(expected, measured);
  return found && h("span", { class: found.kind === "opposite" ? "disagrees" : "agrees" }, `${found.sign} ${found.text}`);
}

// --- the next token ---------------------------------------------------------------------------

function nextTokens({ likeliest, first }) {
  const most = Math.max(...likeliest.map(({ before, after }) => Math.max(before, after)));
  return h("section", {},
    h("h3", {}, "Next token ", h("span", { class: "muted" }, first.kl === null ? "" : `KL ${number(first.kl)} nats`)),
    h("table", { class: "change-table" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Token"), h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Bars")),
        ["Without", "With", "Change"].map((head) => h("th", { scope: "col", class: "number" }, head)))),
      h("tbody", {}, likeliest.map((row) => tokenRow(row, most)))));
}

function tokenRow({ text, before, after }, most) {
  return h("tr", {},
    h("th", { scope: "row", class: "change-token" }, visible(text)),
    h("td", { class: "change-bars", "aria-hidden": true }, bar("without", before / most), bar("with", after / most)),
    h("td", { class: "number" }, percent(before)),
    h("td", { class: "number" }, percent(after)),
    h("td", { class: "number" }, h("span", { class: after < before ? "negative" : "positive" }, points(after - before))));
}

function bar(name, share) {
  const element = h("span", { class: `change-bar ${name}` });
  element.style.width = `${100 * share}%`;
  return element;
}

/** Return a difference of probabilities in percentage points, signed: +24 points. */
function points(difference) {
  const text = percent(Math.abs(difference)).replace("%", " points");
  return difference === 0 ? "0 points" : `${difference < 0 ? "−" : "+"}${text}`;
}

// --- texts -------------------------------------------------------------------------------------

function texts({ without, with: edited }, prompt) {
  const [inPlain, inEdited] = changedTokens(without.token_ids, edited.token_ids);
  const isSame = !inPlain.includes(true) && !inEdited.includes(true);
  return h("section", { class: "change-texts" },
    text("Without", prompt, without, inPlain),
    text("With", prompt, edited, inEdited),
    isSame && h("p", { class: "change-note muted" }, "Both texts are the same."));
}

function text(title, prompt, { tokens, probabilities, ended }, changed) {
  const token = (each, at) => h(changed[at] ? "mark" : "span", { class: "change-token", title: `${visible(each)} ${percent(probabilities[at])}` }, printableLines(each));
  return h("div", {}, h("h3", {}, title),
    h("p", { class: "change-text" }, h("span", { class: "faint" }, printableLines(endOf(prompt))), tokens.map(token), ended && h("span", { class: "faint", title: "the text ends here" }, " ■")));
}

function endOf(prompt) {
  const characters = Array.from(prompt);
  return characters.length > LONGEST_PROMPT ? `…${characters.slice(-LONGEST_PROMPT).join("")}` : prompt;
}

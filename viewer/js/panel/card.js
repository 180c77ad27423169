// The card of a feature (features/store/card.py): when it is active, what it promotes, its neighbours, its examples.

import { labelKey } from "../data/labels.js";
import { printable, visible } from "../data/visible.js";
import { count, number, percent } from "../ui/format.js";
import { h } from "../ui/dom.js";
import { shareBar } from "./bar.js";
import { quietButton } from "./buttons.js";
import { histogram } from "./histogram.js";
import { tokenText } from "./names.js";
import { signedText } from "./number.js";
import { explanation, facts, section } from "./section.js";

const ALL_LAYERS = -1;
const [BEFORE, AFTER] = [64, 32]; // characters of an example's context, as features/store/card_text.py
const [FIRING, WRITTEN, TOP, QUANTILES] = [6, 5, 6, 4];

/** Return the parts of the card of a node's feature; null if the page has none. */
export function featureCard(context, node) {
  const card = context.extras.cards?.[labelKey(context.graph, node)];
  if (!card) return null;
  return [
    section("Active on", percent(card.density), activity(card, context.graph.activation[node])),
    outputs(card),
    neighbours(context, card),
    examples(card, "top", "Strongest examples", TOP),
    examples(card, "quantile", "Examples from all its activations", QUANTILES),
  ];
}

function activity(card, activation) {
  if (!card.count && !card.markup_count) return explanation("Never active in the text of the feature store.");
  const markup = card.markup_count > 0;
  return [
    card.out_of_format && h("p", { class: "warning" }, `Active on ${card.out_of_format}: not a feature of text.`),
    card.histogram && histogram(card.histogram, activation),
    facts([
      ["of text", percent(card.density), h("span", { class: "faint" }, ` ${count(card.count)} tokens`)],
      markup && ["of chat markup", percent(card.markup_density)],
      ["mean when active", number(card.mean)],
      ["largest", number(card.max)],
    ]),
    card.fires_on?.length > 0 && fires(card.fires_on),
    h("p", { class: "explanation" }, "From ", h("bdi", {}, printable(card.dictionary)), "."),
  ];
}

function fires(tokens) {
  const most = tokens[0].share;
  return h("table", { class: "share-table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col", colspan: 2 }, "fires on"),
      h("th", { scope: "col", title: "Share of the tokens at which it is active" }, "of all"),
      h("th", { scope: "col", title: "Share of this token's occurrences at which it is active" }, "of token"))),
    h("tbody", {}, tokens.slice(0, FIRING).map((each) => h("tr", {},
      h("td", {}, tokenText(each.token)), h("td", {}, shareBar(most > 0 ? each.share / most : 0)),
      h("td", { class: "number" }, percent(each.share)), h("td", { class: "number" }, percent(each.of_token))))));
}

function outputs(card) {
  const all = card.outputs?.find((each) => each.layer === ALL_LAYERS);
  if (!all) return null;
  const layers = card.outputs.filter((each) => each.layer !== ALL_LAYERS);
  return section("Promotes and suppresses", "",
    h("div", { class: "two-columns" }, tokens("promotes", all.top), tokens("suppresses", all.bottom)),
    layers.length > 1 && h("details", { class: "by-layer" }, h("summary", {}, "By the layer that it writes to"),
      h("table", {}, h("tbody", {}, layers.map((each) => h("tr", {}, h("th", { scope: "row", class: "number" }, String(each.layer)),
        h("td", {}, each.top.slice(0, WRITTEN).map((token) => [tokenText(token.token), " "]))))))));
}

function tokens(name, list) {
  return h("table", { class: "token-table" }, h("caption", {}, name),
    h("tbody", {}, list.map((each) => h("tr", {},
      h("td", {}, tokenText(each.token)), h("td", { class: "number" }, signedText(each.logit, 2))))));
}

function neighbours(context, card) {
  const lists = [["reads alike", card.near_encoder], ["writes alike", card.near_decoder]].filter(([, near]) => near?.length > 0);
  if (!lists.length) return null;
  return section("Near features", "", lists.map(([name, near]) =>
    h("table", { class: "token-table near" }, h("caption", {}, name), h("tbody", {}, near.map((each) => nearRow(context, each))))));
}

/** Return a line of a near feature; it opens the feature where the graph has it. */
function nearRow(context, { feature, cosine, label }) {
  const node = nodeNamed(context.graph, feature);
  const name = [h("span", { class: "code" }, feature), label && h("bdi", { class: "label-text" }, visible(label))];
  const line = h("span", { class: "node-name" }, name);
  const open = () => context.open(context.graph.nameOf(node));
  const content = node < 0 ? line : quietButton(`near ${feature}`, "node-button", open, {}, line);
  return h("tr", {}, h("td", {}, content), h("td", { class: "number" }, cosine.toFixed(2)));
}

/** Return the last node of a feature in the graph, or -1. */
function nodeNamed(graph, feature) {
  for (let position = graph.info.tokens.length - 1; position >= 0; position--) {
    const node = graph.nodeOf(`${feature}@${position}`);
    if (node >= 0) return node;
  }
  return -1;
}

function examples(card, kind, title, most) {
  const found = spread(card.examples?.filter((each) => each.kind === kind) ?? [], kind, most);
  return found.length === 0 ? null : section(title, "", h("ol", { class: "examples" }, found.map((each) =>
    h("li", {}, h("span", { class: "number" }, number(each.activation)), h("span", { class: "context" }, contextOf(each))))));
}

/** Return the first examples, or of those from all activations some from strongest to weakest. */
function spread(list, kind, most) {
  if (kind === "top" || list.length <= most) return list.slice(0, most);
  return Array.from({ length: most }, (_, at) => list[Math.round((at * (list.length - 1)) / (most - 1))]);
}

function contextOf({ tokens: texts, mark }) {
  const before = printable(texts.slice(0, mark).join(""));
  const after = printable(texts.slice(mark + 1).join(""));
  const cut = [...before].length > BEFORE ? `…${[...before].slice(-BEFORE).join("")}` : before;
  const [, lead, token] = /^( *)([^]*)$/.exec(texts[mark]);
  const rest = [...after].length > AFTER ? `${[...after].slice(0, AFTER).join("")}…` : after;
  return h("bdi", {}, cut, token && lead, h("mark", {}, visible(token || lead)), rest);
}

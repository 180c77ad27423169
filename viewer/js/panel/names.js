// Nodes as people read them: a mark of the kind, a label or text, and the name.

import { ERROR, FEATURE, LOGIT, TOKEN } from "../data/graph.js";
import { visible } from "../data/visible.js";
import { h } from "../ui/dom.js";
import { kindMark } from "../ui/node.js";

const MIDDLE = " · ";

/** Return a text of the model in the frame that says so; invisible characters have signs. */
export function tokenText(text) {
  return h("bdi", { class: "token-text" }, visible(text));
}

/** Return what a node is called first: its label, or the text of a token or target; null for a feature without a label. */
export function headline(context, node) {
  const { graph } = context;
  if (graph.kind[node] === TOKEN || graph.kind[node] === LOGIT) return tokenText(graph.texts("text")[node]);
  const label = context.label(node);
  return label && h("bdi", { class: "label-text" }, visible(label.text));
}

/** Return a node in one line: mark, label or text, name. */
export function nodeName(context, node) {
  const { graph } = context;
  const title = headline(context, node);
  const name = graph.kind[node] === LOGIT ? "target" : graph.nameOf(node);
  return h("span", { class: "node-name" }, kindMark(graph, node), title, h("span", { class: title ? "code faint" : "code" }, name));
}

/** Return a node in few words: mark, and the label, the text or the name. */
export function shortName(context, node) {
  const title = headline(context, node) ?? h("span", { class: "code" }, context.graph.nameOf(node));
  return h("span", { class: "node-name" }, kindMark(context.graph, node), title);
}

/** Return a node in one line of text, for names that screen readers say and for tooltips. */
export function nodeText(context, node) {
  const { graph } = context;
  const text = graph.texts("text")[node];
  if (graph.kind[node] === LOGIT) return `target ${visible(text)}`;
  if (graph.kind[node] === TOKEN) return `token ${visible(text)} at ${graph.position[node]}`;
  const label = context.label(node);
  return label ? `${graph.nameOf(node)} ${visible(label.text)}` : graph.nameOf(node);
}

/** Return where a node is: kind, layer, position with its token. */
export function siteOf(context, node) {
  const { graph } = context;
  const position = graph.position[node];
  const at = ["at ", String(position), " ", tokenText(graph.info.tokens[position])];
  switch (graph.kind[node]) {
    case FEATURE: return [`Feature${MIDDLE}layer ${graph.layer[node]}${MIDDLE}`, ...at];
    case ERROR: return [`Error node${MIDDLE}layer ${graph.layer[node]}${MIDDLE}`, ...at];
    case TOKEN: return [`Token${MIDDLE}position ${position}${MIDDLE}id ${graph.token[node]}`];
    default: return [`Target${MIDDLE}after `, String(position), " ", tokenText(graph.info.tokens[position])];
  }
}

/** Return a button that opens a node in the panel and lights it up in the circuit. */
export function nodeButton(context, node, { isShort = false, ...properties } = {}) {
  const name = context.graph.nameOf(node);
  return h("button", {
    type: "button",
    title: nodeText(context, node),
    onclick: () => {
      context.light(null);
      context.open(name);
    },
    onmouseenter: () => context.light(node),
    onmouseleave: () => context.light(null),
    onfocus: () => context.light(node),
    onblur: () => context.light(null),
    ...properties,
    class: "quiet node-button",
  }, isShort ? shortName(context, node) : nodeName(context, node));
}

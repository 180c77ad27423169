// A node: its label, numbers, effects, inputs, outputs, what its row adds up to, and the card of its feature.

import { visible } from "../data/visible.js";
import { ERROR, FEATURE, LOGIT, TOKEN } from "../data/graph.js";
import { count, number, percent } from "../ui/format.js";
import { h, replaceChildren } from "../ui/dom.js";
import { kindMark } from "../ui/node.js";
import { featureCard } from "./card.js";
import { inputList, outputList } from "./edge_list.js";
import { inputsOf, outputsOf } from "./edges.js";
import { expectedChange } from "./effects.js";
import { effectSection } from "./effect_section.js";
import { certaintyOf, influenceValue, rowOf } from "./estimates.js";
import { labelEditor, labelSource } from "./label_editor.js";
import { siteOf } from "./names.js";
import { exact, signedValue } from "./number.js";
import { createRowSum } from "./row_sum.js";
import { explanation, figures, hiddenBadge } from "./section.js";
import { probabilityOf, targetSection, targetText, valueName } from "./targets.js";

const NO_INPUTS = {
  [FEATURE]: "Its row was not computed: what it reads is not in the file.",
  [ERROR]: "An error node has no inputs: it is what the features of its layer do not explain of the MLP's output.",
  [TOKEN]: "A token has no inputs: it is where the model begins.",
  [LOGIT]: "The file has no edges into this target.",
};

/** Return {element, update, edit} of a node; `update` reads the pruning again, `edit` begins editing the label. */
export function nodeView(context, node, actions) {
  const { graph } = context;
  const label = labelEditor(context, node);
  const badge = h("span");
  const inputs = inputList(context, node, inputsOf, NO_INPUTS[graph.kind[node]]);
  const outputs = graph.kind[node] === LOGIT ? null : outputList(context, node, outputsOf, "Nothing in the file reads it.");
  const sum = createRowSum(context, node);
  const element = h("div", {},
    h("header", { class: "subject" },
      h("p", { class: "site" }, kindMark(graph, node), h("span", {}, siteOf(context, node)), badge, actions),
      label.element,
      h("p", { class: "subject-name" }, h("span", { class: "code" }, graph.nameOf(node)),
        h("span", { class: "faint" }, labelSource(context, node)), groupNames(context, node))),
    numbers(context, node), otherTargets(context, node), effectSection(context, node),
    inputs.element, outputs?.element, sum?.element, cardParts(context, node));
  const update = () => {
    replaceChildren(badge, !context.isShown(node) && hiddenBadge());
    for (const part of [inputs, outputs, sum]) part?.update();
  };
  update();
  return { element, update, edit: label.edit };
}

function numbers(context, node) {
  const { graph } = context;
  const [activation, probability] = [graph.activation[node], graph.probability[node]];
  const change = expectedChange(graph, node, context.state.target);
  const isTarget = graph.kind[node] === LOGIT;
  return figures([
    !isTarget && influenceFigure(context, node),
    rowFigure(context, node),
    graph.kind[node] === FEATURE && ["Activation", exact(activation, number(activation)), usual(context, node)],
    change && ["If ablated", signedValue(change.value), change.target ? ["of ", targetText(context, change.target)] : "all targets"],
    isTarget && ["Probability", probabilityOf(probability), ""],
    isTarget && [capitalized(valueName(graph, node)), signedValue(graph.pre_activation[node]), ""],
  ].filter(Boolean), graph.isEstimated && !isTarget);
}

function capitalized(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** Return the names of the groups that a node is in. */
function groupNames({ graph, state }, node) {
  const name = graph.nameOf(node);
  const groups = state.groups.filter(({ nodes }) => nodes.includes(name) || nodes.includes(name.split("@")[0]));
  return groups.map((group) => visible(group.name)).map((text) => h("bdi", { class: "group-name", title: `In the group ${text}` }, text));
}

/**
 * The influence of a node is an estimate with a standard error, or lies between its value and value + bound, where rows are missing; its
 * rank is that among all nodes.
 */
function influenceFigure(context, node) {
  const { app, graph, influence, influenceName } = context;
  const [value, bound, certainty] = [influence[node], graph.influence_bound[node], certaintyOf(context, node)];
  const rank = 1 + influence.reduce((count, each) => count + (each > value), 0);
  const isTraced = influence === graph.influence;
  const isBounded = bound > 0 && isTraced && !certainty; // on one target the bound is not known
  const range = isBounded && [" to ", exact(value + bound, percent(Math.min(1, value + bound)))];
  const what = isTraced ? "In the graph as it was traced, before any pruning, on all of its targets" : "Along the edges of this file, on this target alone";
  const title = certainty ? `${what}. ${certainty.title}` : what;
  const among = `${app.diff ? `in the ${isTraced ? "traced" : "pruned"} graph, ` : ""}rank ${count(rank)} of ${count(graph.size)}`;
  const note = certainty ? `${certainty.words}, ${among}` : bound > 0 ? "rows are missing" : among;
  return [capitalized(influenceName), h("span", { title }, influenceValue(context, node), range), note];
}

/** Return with which probability the row of a feature was drawn; null for other nodes and graphs. */
function rowFigure(context, node) {
  const row = rowOf(context, node);
  return row && ["Probability of its row", h("span", { title: row.title }, exact(row.probability, percent(row.probability))), row.words];
}

/** Return the usual activation of a node's feature: as graphs/usual.py, the mean over the nodes of the feature, the unit of edits such as 2x. */
function usual({ graph }, node) {
  let [sum, positions] = [0, 0];
  for (let each = 0; each < graph.size && graph.kind[each] === FEATURE; each++) {
    if (graph.layer[each] !== graph.layer[node] || graph.feature[each] !== graph.feature[node]) continue;
    sum += graph.activation[each];
    positions++;
  }
  const title = "Mean over the positions of this graph at which the feature is active: the unit of edits such as 2x";
  return h("span", { title }, `usually ${number(sum / positions)} here`);
}

/** Return the other targets beside a target: what the model says next. */
function otherTargets(context, node) {
  const { graph } = context;
  const targets = graph.info.targets;
  if (!targets.some((target) => target.node === node) || targets.length < 2) return null;
  return targetSection(context, node);
}

function cardParts(context, node) {
  if (context.graph.kind[node] !== FEATURE) return null;
  return featureCard(context, node) ?? explanation("This page has no card of the feature: give a feature store when you make the page.");
}

// The model of a graph: the nodes, edges and columns that its circuit shows.

import { ownGroups } from "../groups/members.js";
import { ERROR, FEATURE, KINDS, LOGIT, TOKEN } from "../data/graph.js";
import { labelOf } from "../data/labels.js";
import { shortLabel } from "../data/short_label.js";
import { visible } from "../data/visible.js";
import { percent } from "../ui/format.js";
import { foldGroups } from "./folding.js";
import { cutOff, effectSizes, nodeInfluence, targetWeights } from "./strength.js";

/** Largest number of edges that a circuit draws. */
export const MOST_EDGES = 20_000;

/**
 * Return the model of a graph. A model is what a circuit draws, whatever it comes from:
 *
 *   nodes    [{name, node, kind, layer, position, label, detail, title, size, …}], see below
 *   edges    {from, to, weight, share, mass}: typed arrays; `from` and `to` are numbers in `nodes`, `share` is the part of
 *            the input of `to`, `mass` the influence that passes; optional `tone`, names of colours
 *   columns  [{text}] for every position
 *   total    {nodes, edges} before the strongest were chosen
 *
 * A node has a `name`, by which pins, groups and so on refer to it, and the number `node` in its graph (null for a group);
 * `kind` is feature, error, token, logit or group. Layers of tokens and logits are ignored. `size` is from 0 to 1. Optional:
 * `ring`, the name of the colour of a ring; `fill`, of the shape; `form`, circle, diamond, box, card, pill, frame, left or right; `ghost`, true for a node
 * that only keeps its place, so that two circuits have the same layout; `shrink`, the part of its place that a circle fills. Edges
 * with `hidden`, a mask, only have a part in the layout.
 *
 * Args: graph, result (of the pruner), state (of the file), options {opened: Set of names of open groups}.
 */
export function graphModel(graph, result, state, { opened = new Set() } = {}) {
  const numbers = Array.from(result.nodes.keys()).filter((node) => result.nodes[node]);
  const influence = nodeInfluence(graph, state.target);
  const sizes = (state.sizeBy === "effect" && effectSizes(graph, state.target)) || influence;
  const largest = largestOf(sizes, numbers.filter((node) => graph.kind[node] <= ERROR));
  const nodes = numbers.map((node) => modelNode(graph, node, state, Math.min(1, sizes[node] / largest || 0)));
  const edges = modelEdges(graph, result.edges, numbers, influence, targetWeights(graph, state.target));
  const columns = graph.info.tokens.map((text) => ({ text: visible(text) }));
  const model = { nodes, edges, columns, total: { nodes: nodes.length, edges: result.edges.length } };
  return foldGroups(model, ownGroups(state.groups), opened);
}

function modelNode(graph, node, state, size) {
  const kind = graph.kind[node];
  const position = graph.position[node] < 0 ? graph.info.tokens.length - 1 : graph.position[node];
  const common = { name: graph.nameOf(node), node, kind: KINDS[kind], layer: graph.layer[node], position, size };
  if (kind === LOGIT) return { ...common, ...logitTexts(graph, node, state) };
  if (kind === TOKEN) {
    const label = visible(graph.texts("text")[node]);
    return { ...common, label, detail: "", title: `token ${label} at position ${position}` };
  }
  const label = labelOf(graph, node, state.labels)?.text ?? "";
  const ring = graph.targetAt(node) ? "target-line" : null;
  const title = `${KINDS[kind]} ${common.name}${label ? `, ${label}` : ""}`;
  const plain = kind === FEATURE ? String(graph.feature[node]) : "";
  return { ...common, label: label ? shortText(label) : plain, isNamed: label !== "", detail: "", title, ring };
}

const shortTexts = new Map(); // by label

function shortText(label) {
  if (!shortTexts.has(label)) shortTexts.set(label, visible(shortLabel(label)));
  return shortTexts.get(label);
}

function logitTexts(graph, node, state) {
  const target = graph.targetAt(node);
  const label = visible(target?.label || graph.texts("text")[node]);
  const detail = target?.probability == null ? (target?.kind ?? "") : percent(target.probability);
  const isChosen = state.target === null || graph.info.targets[state.target] === target;
  return { label, detail, title: `target ${label}, ${detail}`, probability: target?.probability ?? null, fill: isChosen ? null : "token" };
}

/** Return the strongest edges between the nodes with some numbers. */
function modelEdges(graph, kept, numbers, influence, weights) {
  const index = new Int32Array(graph.size).fill(-1);
  numbers.forEach((node, at) => (index[node] = at));
  const masses = edgeMasses(graph, kept, influence, weights);
  const { least, ties } = cutOff(masses, MOST_EDGES);
  let equal = 0;
  const [places, totals] = [[], graph.rowSums];
  masses.forEach((mass, at) => (mass > least || (mass === least && ++equal <= ties)) && places.push(at));
  const edges = emptyEdges(places.length);
  let [row, count] = [0, 0];
  for (const at of places) {
    const edge = kept[at];
    while (graph.indptr[row + 1] <= edge) row++;
    const [from, to] = [index[graph.sources[edge]], index[row]];
    if (from < 0 || to < 0) continue;
    edges.from[count] = from;
    edges.to[count] = to;
    edges.weight[count] = graph.weights[edge];
    edges.share[count] = Math.abs(graph.weights[edge]) / totals[row];
    edges.mass[count++] = masses[at];
  }
  return firstEdges(edges, count);
}

/** Return the influence that passes along each of some edges: share of the row times influence and weight of its node. */
function edgeMasses(graph, kept, influence, weights) {
  const [masses, totals] = [new Float32Array(kept.length), graph.rowSums];
  for (let at = 0, row = 0; at < kept.length; at++) {
    while (graph.indptr[row + 1] <= kept[at]) row++;
    if (totals[row] > 0) masses[at] = (Math.abs(graph.weights[kept[at]]) / totals[row]) * (influence[row] + weights[row]);
  }
  return masses;
}

/** Return the arrays of `count` edges. */
export function emptyEdges(count) {
  const [from, to] = [new Int32Array(count), new Int32Array(count)];
  return { from, to, weight: new Float32Array(count), share: new Float32Array(count), mass: new Float32Array(count) };
}

/** Return the first `count` edges. */
export function firstEdges(edges, count) {
  return Object.fromEntries(Object.entries(edges).map(([name, values]) => [name, values.subarray(0, count)]));
}

function largestOf(values, places) {
  return places.reduce((largest, place) => Math.max(largest, values[place]), 0) || 1;
}

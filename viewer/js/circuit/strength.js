// How much nodes and edges matter: influence as in graphs/influence.py, effects as in graphs/saved_effects.py.

import { visible } from "../data/visible.js";
import { estimateOf } from "../prune/estimate.js";
import { nodeInfluence as influenceOf } from "../prune/influence.js";
import { replicateInfluence } from "../prune/sampling.js";

const onTargets = new WeakMap(); // by graph: what `influenceOnOne` returns, by the number of the target
const replicated = new WeakMap(); // by graph: the influences in each replicate, by the number of the target, null for all

/** Return the weight of every node as a target, a Float64Array; `target` is the number of one, null for all. */
export function targetWeights(graph, target) {
  const weights = new Float64Array(graph.size);
  graph.info.targets.forEach((each, number) => {
    if (target === null) weights[each.node] += each.weight;
    else if (number === target) weights[each.node] = 1;
  });
  return weights;
}

/**
 * Return the influence of every node on all targets or on one, a Float64Array.
 *
 * On all targets it is the one of the traced graph, on one it follows from the edges of the file, and its draws if it is sampled.
 */
export function nodeInfluence(graph, target) {
  return isAll(graph, target) ? graph.influence : remembered(onTargets, graph, target, influenceOnOne).value;
}

/** Return the standard errors of `nodeInfluence`, or null where it has none: for exact graphs, and for one target along pruned edges. */
export function influenceErrors(graph, target) {
  return isAll(graph, target) ? graph.standard_error : remembered(onTargets, graph, target, influenceOnOne).error;
}

/** Return {value, error} of the influence of some nodes together; the error is null where nodes have none and in pruned graphs. */
export function summedInfluence(graph, nodes, target) {
  const influence = nodeInfluence(graph, target);
  const value = nodes.reduce((sum, node) => sum + influence[node], 0);
  if (!graph.draws) return { value, error: null };
  const sums = remembered(replicated, graph, isAll(graph, target) ? null : target, replicates).map((own) => [nodes.reduce((sum, node) => sum + own[node], 0)]);
  return { value, error: estimateOf(sums).error[0] };
}

/** Return what `nodeInfluence` is called: "influence", or "influence on tiny" where one of several targets is chosen. */
export function influenceName(graph, target) {
  return isAll(graph, target) ? "influence" : `influence on ${targetName(graph, target)}`;
}

/** Return the entry of the heaviest of some targets, of equal ones that of the first node; null without any. */
export function heaviestOf(targets) {
  const isBetter = (a, b) => a.weight > b.weight || (a.weight === b.weight && a.node < b.node);
  return targets.reduce((best, each) => (!best || isBetter(each, best) ? each : best), null);
}

/** Return the text of a target by its number. */
export function targetName(graph, target) {
  const { label } = graph.info.targets[target];
  return visible(label.trim() || label);
}

function isAll(graph, target) {
  return target === null || graph.info.targets.length < 2;
}

function influenceOnOne(graph, target) {
  if (graph.draws) return estimateOf(replicates(graph, target));
  return { value: influenceOf(absoluteEdges(graph), targetWeights(graph, target)), error: null };
}

function replicates(graph, target) {
  return replicateInfluence(absoluteEdges(graph), targetWeights(graph, target), graph.draws);
}

function absoluteEdges({ indptr, sources, weights }) {
  return { indptr, sources, weights: weights.map(Math.abs) };
}

/** Return what a function makes of a graph and a target, made once. */
function remembered(known, graph, target, make) {
  if (!known.has(graph)) known.set(graph, new Map());
  const ofGraph = known.get(graph);
  if (!ofGraph.has(target)) ofGraph.set(target, make(graph, target));
  return ofGraph.get(target);
}

/** Return the mean |expected effect| of every node on the targets, a Float64Array, or null for a graph without effects. */
export function effectSizes(graph, target) {
  if (!graph.effects("expected_effect", 0)) return null;
  const targets = graph.info.targets.map((each, number) => (target === null ? each.weight : Number(number === target)));
  const total = targets.reduce((sum, weight) => sum + weight, 0) || 1;
  return Float64Array.from({ length: graph.size }, (_, node) => {
    const effects = graph.effects("expected_effect", node) ?? [];
    return effects.reduce((sum, effect, number) => sum + (Math.abs(effect) || 0) * targets[number], 0) / total;
  });
}

/**
 * Return {least, ties}: the `count` largest of some values, a Float32Array of numbers from 0, are those above `least` and `ties` of
 * those that equal it.
 */
export function cutOff(values, count) {
  if (values.length <= count) return { least: -1, ties: 0 };
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length); // in the order of the values
  const upper = bucketOf(bits, count, (each) => each >>> 16);
  const lower = bucketOf(bits.filter((each) => each >>> 16 === upper.bucket), upper.left, (each) => each & 0xffff);
  return { least: new Float32Array(Uint32Array.of((upper.bucket << 16) | lower.bucket).buffer)[0], ties: lower.left };
}

/** Return {bucket, left}: the bucket that has the last of the `count` largest values, and how many of them are in it. */
function bucketOf(values, count, bucketAt) {
  const counts = new Uint32Array(1 << 16);
  for (const each of values) counts[bucketAt(each)]++;
  let [bucket, left] = [counts.length - 1, count];
  for (; bucket > 0 && counts[bucket] < left; bucket--) left -= counts[bucket];
  return { bucket, left };
}

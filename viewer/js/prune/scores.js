// Scores of graphs and subgraphs, as graphs/scores.py and graphs/subgraph.py.

import { edgesBetween, sumOf, weightFrom } from "./csr.js";
import { nodeInfluence } from "./influence.js";
import { sampledScores } from "./sampling.js";

/**
 * Return {replacement, completeness} of a graph whose edges are `csr`. `leftOut` is absolute weight of each row's edges from
 * nodes that are not in the graph, which count as one more error node; null for none.
 */
export function graphScores({ order, targetWeights, computed }, csr, leftOut = null) {
  const influence = nodeInfluence(csr, targetWeights, leftOut);
  let [outside, fromErrors, mass] = [0, 0, 0];
  for (let row = 0; row < influence.length; row++) {
    const lost = leftOut ? leftOut[row] : 0;
    const total = sumOf(csr.weights, csr.indptr[row], csr.indptr[row + 1]) + lost;
    const own = influence[row] + targetWeights[row];
    if (total > 0) outside += (lost / total) * own;
    if (row < order.errors && !computed[row]) continue; // a feature whose row is not known
    if (total > 0) fromErrors += ((weightFrom(csr, row, order.errors, order.tokens) + lost) / total) * own;
    mass += own;
  }
  const token = sumOf(influence, order.tokens, order.logits);
  const error = sumOf(influence, order.errors, order.tokens) + outside;
  return {
    replacement: token + error > 0 ? token / (token + error) : 1,
    completeness: mass + outside > 0 ? 1 - fromErrors / (mass + outside) : 1,
  };
}

/**
 * Return the scores of the part of a graph whose nodes a mask keeps, with tokens and targets; all other nodes count as error. Those of a
 * sampled graph are estimates with intervals.
 */
export function scoresOf(graph, mask) {
  const kept = withEnds(graph, mask);
  const leftOut = leftOutWeights(graph, kept).map((weight, row) => (kept[row] ? weight : 0));
  return (graph.draws ? sampledScores : graphScores)(graph, edgesBetween(graph.csr, kept, graph.room).csr, leftOut);
}

/** Return the absolute weight of each row's edges from nodes that are not kept, now or in an earlier step. */
export function leftOutWeights({ csr: { indptr, sources, weights }, leftOut }, kept) {
  const sums = new Float64Array(kept.length);
  for (let row = 0; row < kept.length; row++) {
    for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) if (!kept[sources[edge]]) sums[row] += weights[edge];
    if (leftOut) sums[row] += leftOut[row];
  }
  return sums;
}

/** Return a mask with all tokens and targets, which every smaller graph keeps. */
export function withEnds({ order, targetWeights }, mask) {
  return mask.map((kept, node) => Number(kept || node >= order.tokens || targetWeights[node] > 0));
}

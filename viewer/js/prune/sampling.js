// Influence and scores of sampled graphs, as graphs/sampling.py: `draws` are those of GraphData.

import { sumOf, weightFrom } from "./csr.js";
import { jackknife, studentQuantile } from "./estimate.js";
import { spread } from "./influence.js";
import { scoreAtShare } from "./shares.js";

/**
 * Return the influence of every node in each replicate, arrays. `leftOut` is that of `nodeInfluence`.
 *
 * A drawn row passes on its influence and its weight, times its factor, another row its weight alone. Targets have the factor 1 in
 * every replicate.
 */
export function replicateInfluence(csr, targetWeights, draws, leftOut = null) {
  const { index, factors, replicates } = draws;
  const influence = Array.from({ length: replicates }, () => new Float64Array(targetWeights.length));
  for (let row = targetWeights.length - 1; row >= 0; row--) {
    const start = csr.indptr[row], stop = csr.indptr[row + 1], draw = index[row], weight = targetWeights[row];
    if (start === stop || (draw < 0 && weight === 0)) continue;
    const total = sumOf(csr.weights, start, stop) + (leftOut ? leftOut[row] : 0);
    for (let replicate = 0; replicate < replicates; replicate++) {
      const own = influence[replicate];
      const mass = draw < 0 ? weight : (own[row] + weight) * factors[draw * replicates + replicate];
      spread(csr, row, mass, total, own);
    }
  }
  return influence;
}

/**
 * Return for how many nodes chance decides whether they pass a node threshold, {ranked, uncertain}, as `sampling_record` of
 * graphs/pruning_bounds.py: `ranked` nodes pass it, and for `uncertain` ones the score there is inside of their intervals.
 */
export function chanceAt({ value, error }, threshold, replicates) {
  const [score, quantile] = [scoreAtShare(value, threshold), studentQuantile(replicates)];
  const counts = { ranked: 0, uncertain: 0 };
  for (let node = 0; node < value.length; node++) {
    const half = quantile * error[node];
    if (value[node] >= score) counts.ranked++;
    if (Math.max(value[node] - half, 0) < score && score < value[node] + half) counts.uncertain++;
  }
  return counts.ranked ? counts : { ranked: 0, uncertain: 0 };
}

/** Return estimates of the scores of a sampled graph with their intervals, by the names of the graph file; arguments as `graphScores`. */
export function sampledScores(graph, csr, leftOut) {
  const influence = replicateInfluence(csr, graph.targetWeights, graph.draws, leftOut);
  const shares = errorShares(graph, csr, leftOut);
  const sums = influence.map((own, replicate) => scoreSums(graph, own, replicate, shares));
  const replacement = jackknife(([tokens, errors]) => (tokens + errors > 0 ? tokens / (tokens + errors) : 1), sums);
  const completeness = jackknife(([, , fromErrors, mass]) => (mass > 0 ? 1 - fromErrors / mass : 1), sums);
  return {
    replacement: clipped(replacement.value),
    completeness: clipped(completeness.value),
    replacement_interval: [replacement.low, replacement.high].map(clipped),
    completeness_interval: [completeness.low, completeness.high].map(clipped),
  };
}

/** Return the parts of each row's weight: {errors}, from error nodes and what is left out, and {lost}, from the latter alone. */
function errorShares({ order }, csr, leftOut) {
  const rows = csr.indptr.length - 1;
  const [errors, lost] = [new Float64Array(rows), new Float64Array(rows)];
  for (let row = 0; row < rows; row++) {
    const left = leftOut ? leftOut[row] : 0;
    const total = sumOf(csr.weights, csr.indptr[row], csr.indptr[row + 1]) + left;
    if (total === 0) continue;
    errors[row] = (weightFrom(csr, row, order.errors, order.tokens) + left) / total;
    lost[row] = left / total;
  }
  return { errors, lost };
}

/** Return the sums of a replicate in the scores: influence of tokens and of errors, mass from errors, and all mass. */
function scoreSums({ order, targetWeights, draws }, influence, replicate, shares) {
  let [outside, fromErrors, mass] = [0, 0, 0];
  for (let row = 0; row < influence.length; row++) {
    const draw = draws.index[row];
    const factor = draw < 0 ? 0 : draws.factors[draw * draws.replicates + replicate];
    const passed = row >= order.logits ? targetWeights[row] : (influence[row] + targetWeights[row]) * factor;
    outside += shares.lost[row] * passed;
    fromErrors += shares.errors[row] * passed;
    mass += influence[row] + targetWeights[row];
  }
  const [tokens, errors] = [sumOf(influence, order.tokens, order.logits), sumOf(influence, order.errors, order.tokens)];
  return [tokens, errors + outside, fromErrors, mass + outside];
}

function clipped(score) {
  return Math.min(1, Math.max(0, score));
}

// Influence, as graphs/influence.py: the share of all paths' normalised weight that ends in the targets.
// Loops over rows destructure no arrays: before they are compiled, the first picture waits for them.

import { sumOf } from "./csr.js";

/** Return the influence of every node. `leftOut` is absolute weight of each row that is not in the arrays, or null. */
export function nodeInfluence(csr, targetWeights, leftOut = null) {
  const influence = new Float64Array(targetWeights.length);
  for (let row = influence.length - 1; row >= 0; row--) {
    passOn(csr, row, influence[row] + targetWeights[row], leftOut ? leftOut[row] : 0, influence);
  }
  return influence;
}

/**
 * Return an estimate for a graph without some of its rows: a feature without one passes influence on as the computed features
 * of its site do together. `sites` are numbers of the first feature of each site, then the number of features.
 */
export function estimatedInfluence(csr, targetWeights, computed, sites) {
  const influence = new Float64Array(targetWeights.length);
  for (let row = influence.length - 1; row >= sites.at(-1); row--) passOn(csr, row, influence[row] + targetWeights[row], 0, influence);
  for (let site = sites.length - 2; site >= 0; site--) {
    let [total, ofRows] = [0, 0];
    for (let row = sites[site]; row < sites[site + 1]; row++) {
      const mass = influence[row] + targetWeights[row];
      total += mass;
      ofRows += computed[row] ? mass : 0;
    }
    if (ofRows === 0) continue;
    for (let row = sites[site]; row < sites[site + 1]; row++) {
      passOn(csr, row, (influence[row] + targetWeights[row]) * (total / ofRows), 0, influence);
    }
  }
  return influence;
}

/** Return the sites of features that are sorted by layer and position: where each begins, then the number of features. */
export function sitesOf(layer, position, features) {
  const sites = [];
  for (let node = 0; node < features; node++) {
    if (!node || layer[node] !== layer[node - 1] || position[node] !== position[node - 1]) sites.push(node);
  }
  return [...sites, features];
}

function passOn(csr, row, mass, leftOut, influence) {
  const start = csr.indptr[row], stop = csr.indptr[row + 1];
  if (mass === 0 || start === stop) return;
  spread(csr, row, mass, sumOf(csr.weights, start, stop) + leftOut, influence);
}

/** Add a row's mass to the influence of its sources, by their shares of its total weight. */
export function spread({ indptr, sources, weights }, row, mass, total, influence) {
  const start = indptr[row], stop = indptr[row + 1];
  if (mass === 0 || total === 0) return;
  const scale = mass / total;
  if (stop - start === 1 || scale === Infinity) {
    // The share of a lone edge is 1 exactly.
    for (let edge = start; edge < stop; edge++) influence[sources[edge]] += mass * (weights[edge] / total);
  } else {
    for (let edge = start; edge < stop; edge++) influence[sources[edge]] += scale * weights[edge];
  }
}

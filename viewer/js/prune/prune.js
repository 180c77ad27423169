// Pruning, as graphs/prune.py: the nodes and edges that carry a given share of the influence.

import { certainty } from "./bounds.js";
import { edgesBetween, keepEdges, roomFor, sumOf } from "./csr.js";
import { estimateOf } from "./estimate.js";
import { estimatedInfluence, nodeInfluence, sitesOf } from "./influence.js";
import { chanceAt, replicateInfluence } from "./sampling.js";
import { graphScores, leftOutWeights, withEnds } from "./scores.js";
import { scoreAtShare } from "./shares.js";

/** Return what the client sent as a graph, with the influence that ranks its nodes (see `Graph._select`). */
export function prunable(sent) {
  const { csr, targetWeights, computed, order, held, lacksRows, draws } = sent;
  const bound = lacksRows ? nodeInfluence(csr, targetWeights) : null;
  const sites = () => sitesOf(sent.layer, sent.position, order.errors);
  const estimate = draws && estimateOf(replicateInfluence(csr, targetWeights, draws));
  const ranking = held ? sent.influence : estimate ? estimate.value : lacksRows ? estimatedInfluence(csr, targetWeights, computed, sites()) : nodeInfluence(csr, targetWeights);
  return { ...sent, ranking, estimate, bound, room: roomFor(csr.sources.length) };
}

/**
 * Prune a graph. Return
 *   nodes      1 for each node that stays
 *   edges      numbers of the edges that stay, ascending
 *   scores     {replacement, completeness} of the pruned graph
 *   hidden     {nodes, share}: how many nodes are hidden, and their share of the influence of all
 *   certainty  {inside, outside, undecided} for a graph without some of its rows, else null
 *   sampling   {ranked, uncertain} for a sampled graph, else null; see `chanceAt`
 */
export function prune(graph, options) {
  const { node, edge } = shares(options, graph.held);
  const pinned = pinnedNodes(graph, options.keepErrors);
  const least = scoreAtShare(graph.ranking, node);
  const nodes = pinned.map((stays, at) => Number(stays || graph.ranking[at] >= least));
  const between = edgesBetween(graph.csr, nodes, graph.room);
  const mask = edgesAbove(between.csr, graph.targetWeights, edge, graph.room);
  dropDeadEnds(graph, between.csr, nodes, mask, pinned);
  const kept = keepEdges(between, mask);
  const leftOut = graph.leftOut && leftOutWeights(graph, nodes).map((weight, row) => (nodes[row] ? weight : 0));
  return {
    nodes,
    edges: kept.edges.slice(),
    scores: graphScores(graph, kept.csr, leftOut),
    hidden: hidden(graph.ranking, nodes),
    certainty: graph.bound && certainty(graph.bound, graph.influenceBound, options.nodeThreshold),
    sampling: graph.estimate && chanceAt(graph.estimate, options.nodeThreshold, graph.draws.replicates),
  };
}

/** Return the thresholds as shares of what an earlier pruning kept, as `within` of graphs/prune.py. */
function shares({ nodeThreshold, edgeThreshold }, held) {
  const within = (value, kept) => (held === null ? value : kept > 0 ? value / kept : 1);
  return { node: within(nodeThreshold, held?.node_threshold), edge: within(edgeThreshold, held?.edge_threshold) };
}

function pinnedNodes(graph, keepErrors) {
  const pinned = withEnds(graph, new Uint8Array(graph.targetWeights.length));
  return keepErrors ? pinned.fill(1, graph.order.errors, graph.order.tokens) : pinned;
}

/** Return a mask of the edges that pass the edge threshold, in arrays of `room`. */
function edgesAbove({ indptr, sources, weights }, targetWeights, threshold, room) {
  const influence = nodeInfluence({ indptr, sources, weights }, targetWeights);
  const [scores, mask] = [room.scores.subarray(0, weights.length), room.mask.subarray(0, weights.length)];
  for (let row = 0; row < influence.length; row++) {
    const total = sumOf(weights, indptr[row], indptr[row + 1]) || 1;
    const mass = influence[row] + targetWeights[row];
    for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) scores[edge] = (weights[edge] / total) * mass;
  }
  const least = scoreAtShare(scores, threshold);
  for (let edge = 0; edge < mask.length; edge++) mask[edge] = Number(scores[edge] >= least);
  return mask;
}

/**
 * Drop unpinned nodes without outgoing edges, and features that need incoming ones and have none, in place.
 *
 * A node that lost its outgoing edges takes outgoing edges from its sources only; one that lost its incoming edges takes
 * incoming ones from its targets only. So one sweep each way ends what Python repeats until nothing changes.
 */
function dropDeadEnds({ order, computed }, { indptr, sources }, nodes, mask, pinned) {
  const outgoing = new Uint32Array(nodes.length);
  for (let row = nodes.length - 1; row >= 0; row--) {
    if (!pinned[row] && !outgoing[row]) continue;
    for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) outgoing[sources[edge]] += mask[edge];
  }
  for (let node = 0; node < nodes.length; node++) nodes[node] &= Number(pinned[node] || outgoing[node] > 0);
  for (let row = 0; row < nodes.length; row++) {
    let incoming = 0;
    for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) incoming += mask[edge] &= nodes[row] & nodes[sources[edge]];
    if (row < order.errors && computed[row] && !pinned[row] && !incoming) nodes[row] = 0;
  }
}

function hidden(influence, nodes) {
  const [result, all] = [{ nodes: 0, share: 0 }, sumOf(influence, 0, influence.length)];
  for (let node = 0; node < nodes.length; node++) {
    if (nodes[node]) continue;
    result.nodes++;
    result.share += all > 0 ? influence[node] / all : 0;
  }
  return result;
}

// What kind of number an influence is: exact, certified or an estimate, as graphs/uncertainty.py.

import { influenceErrors } from "../circuit/strength.js";
import { studentQuantile } from "../prune/estimate.js";
import { count, percent, percentWithError } from "../ui/format.js";
import { exact } from "./number.js";

/** Return the influence of a node as an element, with its standard error if it is an estimate. */
export function influenceValue(context, node) {
  return shareValue(context.influence[node], errorOf(context, node));
}

/** Return a share as an element; `error` is its standard error, null or 0 for none. */
export function shareValue(share, error) {
  return exact(share, error ? percentWithError(share, error) : percent(share));
}

/** Return the standard error of a node's influence; null where influence has none. */
function errorOf({ graph, state }, node) {
  return influenceErrors(graph, state.target)?.[node] ?? null;
}

/**
 * Return {words, title} about the influence of a node in a graph from sampled rows: whether it is exact, certainly between
 * two numbers, or an estimate; `title` has all intervals. Null for other graphs, and where influence has no error.
 */
export function certaintyOf(context, node) {
  const { graph, influence } = context;
  const error = graph.isEstimated ? errorOf(context, node) : null;
  if (error === null) return null;
  const half = studentQuantile(graph.info.traced.sampling.replicates) * error;
  const interval = `95% interval: ${range(Math.max(0, influence[node] - half), influence[node] + half)}`;
  if (influence !== graph.influence) return { words: error > 0 ? "estimate" : "alike in all replicates", title: interval };
  const bound = graph.influence_bound[node];
  const certain = range(graph.certified[node], Math.min(1, graph.certified[node] + bound));
  const isUnchanged = influence[node] === graph.certified[node]; // replicates may agree on a factor other than 1
  if (error === 0 && bound === 0 && isUnchanged) return { words: "exact", title: "All rows that reach the node are in the file" };
  return { words: bound === 0 || bound < 2 * half ? `certified: ${certain}` : "estimate", title: `${interval}. Certified: ${certain}` };
}

function range(low, high) {
  return low === high ? percent(low) : `${percent(low)} to ${percent(high)}`;
}

/**
 * Return {probability, words, text, title} about the row of a feature in a graph from sampled rows: with which probability a replicate
 * draws it, and whether one did; `text` says both. Null for other nodes and graphs.
 */
export function rowOf({ graph }, node) {
  const probability = graph.isEstimated ? graph.inclusion[node] : NaN;
  if (Number.isNaN(probability)) return null;
  const title = "Probability with which a replicate draws the row of this feature, given earlier draws: the mean over replicates";
  const { replicates } = graph.info.traced.sampling;
  const draw = graph.draws ? graph.draws.index[node] : -1;
  if (!graph.computed[node]) return { probability, words: "not computed", text: "row not computed", title };
  if (draw < 0 && graph.draws) return { probability, words: "computed for the circuit", text: "row computed for the circuit", title };
  const factors = graph.draws?.factors.subarray(draw * replicates, (draw + 1) * replicates);
  const words = factors ? `drawn by ${count(factors.filter((factor) => factor > 0).length)} of ${count(replicates)} replicates` : `in each of ${count(replicates)} replicates`;
  return { probability, words, text: `row drawn with probability ${percent(probability)}`, title };
}

/** Return the sentence that says from what the influence of a graph is estimated; null for other graphs. */
export function samplingText({ info }) {
  const { sampling } = info.traced;
  if (!sampling) return null;
  const partial = sampling.partial ? " The trace was stopped before it was finished." : "";
  return `Influence is estimated from ${count(sampling.rows)} of ${count(sampling.features)} rows, ${count(sampling.replicates)} replicates; ± is the standard error.${partial}`;
}

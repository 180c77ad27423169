// Edges of a node in numbers: inputs, outputs, what its row adds up to. Nothing here touches the document.

const ROUNDING = 1e-4; // of a row in float32, as a share of the sum of absolute values
const masks = new WeakMap();

/** Return whether each edge is among those that pruning kept, as a Uint8Array; null before the first pruning. */
export function shownEdges(graph, result) {
  if (!result) return null;
  if (!masks.has(result)) {
    const mask = new Uint8Array(graph.edges);
    for (const edge of result.edges) mask[edge] = 1;
    masks.set(result, mask);
  }
  return masks.get(result);
}

/**
 * Return the edges into a node as [{edge, node, weight, share, shown}], the largest absolute weight first.
 *
 * `share` is the part of the absolute weights of the target's row that the edge has.
 */
export function inputsOf(graph, node, shown) {
  const total = graph.rowSums[node];
  const edges = [];
  for (let edge = graph.indptr[node]; edge < graph.indptr[node + 1]; edge++) {
    edges.push(entry(graph, edge, graph.sources[edge], total, shown));
  }
  return strongestFirst(edges);
}

/** Return the edges out of a node in the same form; `node` is the target of each. */
export function outputsOf(graph, node, shown) {
  const { indptr, edges: numbers, targets } = graph.outgoing;
  const edges = [];
  for (let at = indptr[node]; at < indptr[node + 1]; at++) {
    edges.push(entry(graph, numbers[at], targets[at], graph.rowSums[targets[at]], shown));
  }
  return strongestFirst(edges);
}

/**
 * Return the parts of what a node reads (docs/graph-files.md): shown and hidden edges as {count, sum}, `dropped`, `bias`,
 * their `sum`, and the `value` that it must equal; `closes` is whether it does. Null for nodes without a row.
 *
 * `leftOut` is the absolute weight of dropped edges from nodes that a subgraph lacks; NaN in other graphs.
 */
export function rowSum(graph, node, shown) {
  if (!graph.computed[node]) return null;
  const parts = { shown: { count: 0, sum: 0 }, hidden: { count: 0, sum: 0 } };
  for (let edge = graph.indptr[node]; edge < graph.indptr[node + 1]; edge++) {
    const part = !shown || shown[edge] ? parts.shown : parts.hidden;
    part.count++;
    part.sum += graph.weights[edge];
  }
  const [dropped, bias, value] = [graph.dropped[node], graph.bias[node], graph.pre_activation[node]];
  const sum = parts.shown.sum + parts.hidden.sum + dropped + (bias || 0);
  const scale = graph.rowSums[node] + Math.abs(dropped) + Math.abs(bias || 0);
  const leftOut = graph.table.getChild("left_out")?.get(node) ?? NaN;
  return { ...parts, dropped, bias, sum, value, leftOut, closes: Math.abs(sum - value) <= ROUNDING * scale };
}

function entry(graph, edge, node, total, shown) {
  const weight = graph.weights[edge];
  return { edge, node, weight, share: total > 0 ? Math.abs(weight) / total : 0, shown: !shown || shown[edge] === 1 };
}

function strongestFirst(edges) {
  return edges.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight) || a.node - b.node);
}

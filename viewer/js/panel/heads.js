// Attention heads that carry an edge, from the column `heads` (graphs/saved_heads.py).

import { LOGIT } from "../data/graph.js";

/**
 * Return {direct, heads: [{layer, head, value}]} of an edge: its parts by the last head that a path passes, and the part that
 * passes none. The largest absolute value comes first. Null for a graph without loadings.
 */
export function headLoadings(graph, { edge, source, target }) {
  if (!graph.info.heads) return null;
  const perLayer = graph.info.heads.per_layer;
  const column = graph.table.getChild("heads").data[0];
  let start = Number(column.valueOffsets[target]);
  for (let each = graph.indptr[target]; each < edge; each++) start += perLayer * layersOf(graph, graph.sources[each], target).count;
  const { first, count } = layersOf(graph, source, target);
  const values = column.children[0].values.subarray(start, start + count * perLayer);
  const heads = Array.from(values, (value, at) => ({ layer: first + Math.floor(at / perLayer), head: at % perLayer, value }));
  const moved = heads.reduce((sum, { value }) => sum + value, 0);
  const direct = graph.position[source] === graph.position[target] ? graph.weights[edge] - moved : 0;
  heads.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  return { direct, heads };
}

/** Return the layers whose attention the paths of an edge can pass: above its source, up to the layer of its target. */
function layersOf(graph, source, target) {
  const last = graph.kind[target] === LOGIT ? graph.info.model.n_layers - 1 : graph.layer[target];
  const first = graph.layer[source] + 1; // the layer of a token is -1
  return { first, count: last + 1 - first };
}

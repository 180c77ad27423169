// Sparse matrices in compressed row form, as graphs/csr.py: row = target, column = source. Weights are absolute here.

/** Return the sum of the weights of edges start to stop - 1: four sums side by side, with the bits of `absolute_sum` in Python. */
export function sumOf(weights, start, stop) {
  let a = 0, b = 0, c = 0, d = 0;
  let edge = start;
  for (; edge + 4 <= stop; edge += 4) {
    a += weights[edge];
    b += weights[edge + 1];
    c += weights[edge + 2];
    d += weights[edge + 3];
  }
  for (; edge < stop; edge++) a += weights[edge];
  return a + b + (c + d);
}

/** Return the weight of a row's edges from nodes first to stop - 1. */
export function weightFrom({ indptr, sources, weights }, row, first, stop) {
  let total = 0;
  for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) {
    if (sources[edge] >= first && sources[edge] < stop) total += weights[edge];
  }
  return total;
}

/** Return arrays for values of as many edges, which calls use again and again: new memory costs more than the sums. */
export function roomFor(edges) {
  return {
    edges: new Uint32Array(edges),
    sources: new Int32Array(edges),
    weights: new Float64Array(edges),
    scores: new Float64Array(edges),
    mask: new Uint8Array(edges),
  };
}

/** Return the edges between the nodes of a mask, {csr, edges}, in arrays of `room`: `edges` are their numbers, ascending. */
export function edgesBetween({ indptr, sources, weights }, nodes, room) {
  const starts = new Int32Array(indptr.length);
  const { edges, sources: from, weights: sizes } = room;
  let count = 0;
  for (let row = 0; row < nodes.length; row++) {
    if (nodes[row]) {
      for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) {
        edges[count] = edge;
        from[count] = sources[edge];
        sizes[count] = weights[edge];
        count += nodes[sources[edge]];
      }
    }
    starts[row + 1] = count;
  }
  return part(starts, from, sizes, edges);
}

/** Keep the edges of a mask, in place; take and return what `edgesBetween` returns. */
export function keepEdges({ csr: { indptr, sources, weights }, edges }, mask) {
  const starts = new Int32Array(indptr.length);
  let count = 0;
  for (let row = 0; row + 1 < indptr.length; row++) {
    for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) {
      edges[count] = edges[edge];
      sources[count] = sources[edge];
      weights[count] = weights[edge];
      count += mask[edge];
    }
    starts[row + 1] = count;
  }
  return part(starts, sources, weights, edges);
}

function part(indptr, sources, weights, edges) {
  const count = indptr.at(-1);
  return { csr: { indptr, sources: sources.subarray(0, count), weights: weights.subarray(0, count) }, edges: edges.subarray(0, count) };
}

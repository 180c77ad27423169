// Sparse matrices in compressed row form, as graphs/csr.py: row = target, column = source. Weights are absolute here.

/** Return the sum of the weights of edges start to stop - 1: four sums side by side, with the bits of `absolute_sum` in Python. */
export function sumOf(weights, start, stop) {
  let [a, b, c, d] = [0, 0, 0, 0];
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

/** Return the edges between the nodes of a mask, {csr, edges}: `edges` are their numbers, ascending. */
export function edgesBetween({ indptr, sources, weights }, nodes) {
  const starts = new Int32Array(indptr.length);
  const [edges, from, sizes] = [new Uint32Array(sources.length), new Int32Array(sources.length), new Float64Array(sources.length)];
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
  return { csr: { indptr: starts, sources: from.subarray(0, count), weights: sizes.subarray(0, count) }, edges: edges.subarray(0, count) };
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
  return { csr: { indptr: starts, sources: sources.subarray(0, count), weights: weights.subarray(0, count) }, edges: edges.subarray(0, count) };
}

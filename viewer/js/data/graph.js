// A graph as typed arrays, read from the graph file by apache-arrow. Columns: graphs/schema.py.

import { bits, filled, listOf, texts } from "./columns.js";

/** Codes of the column `kind`, as graphs/order.py: nodes are sorted by them. */
export const FEATURE = 0;
export const ERROR = 1;
export const TOKEN = 2;
export const LOGIT = 3;
export const KINDS = ["feature", "error", "token", "logit"];
/** Entry of an integer column without a value. */
export const NONE = -1;

/**
 * One graph. Row = target, column = source: the edges into node t are numbers indptr[t] to indptr[t + 1] - 1 of
 * `sources` and `weights`.
 */
export class GraphData {
  /** Read the content of a graph file, a Uint8Array. */
  constructor(bytes) {
    this.table = globalThis.Arrow.tableFromIPC(bytes);
    const metadata = this.table.schema.metadata;
    this.info = JSON.parse(metadata.get("cotrace.graph"));
    this.size = this.table.numRows;
    this.kind = this.#column("kind").values;
    for (const name of ["layer", "position", "feature", "token"]) this[name] = filled(this.#column(name), NONE, Int32Array);
    for (const name of ["activation", "pre_activation", "bias", "probability"]) this[name] = filled(this.#column(name), NaN, Float64Array);
    for (const name of ["influence", "influence_bound", "dropped"]) this[name] = this.#column(name).values;
    for (const name of ["standard_error", "certified"]) this[name] = this.table.getChild(name)?.data[0].values ?? null;
    this.computed = bits(this.#column("computed"));
    const sources = this.#column("sources");
    this.indptr = sources.valueOffsets;
    this.sources = sources.children[0].values;
    this.weights = this.#column("weights").children[0].values;
    // Of a first picture only, see viewer/page/first_picture.py: which nodes are kept, and sums of whole rows.
    this.kept = this.table.getChild("kept") && bits(this.#column("kept"));
    this.sums = this.table.getChild("row_sum") && this.#column("row_sum").values;
  }

  /** True for a graph from sampled rows and what was cut from one: `influence` has estimates with standard errors. */
  get isEstimated() {
    return this.standard_error !== null;
  }

  /** Probability with which a replicate draws the row of each feature, NaN for other nodes. */
  get inclusion() {
    return (this.probabilities ??= filled(this.#column("inclusion"), NaN, Float64Array));
  }

  /** Rows that replicates drew, as `drawsOf` returns them; null unless the graph is sampled. */
  get draws() {
    if (this.drawn === undefined) this.drawn = this.table.getChild("draws") && drawsOf(this.#column("draws"), this.info.traced.sampling.replicates);
    return this.drawn;
  }

  /** Number of edges. */
  get edges() {
    return this.sources.length;
  }

  /** Return a column of texts as an array of strings, read once. */
  texts(name) {
    this.cache ??= {};
    return (this.cache[name] ??= texts(this.#column(name)));
  }

  /** Return the effects of a node on every target as an array, or null without them; `name` is effect or expected_effect. */
  effects(name, node) {
    return this.table.getChild(name) && listOf(this.#column(name), node);
  }

  /** Return the name of a node: L17#264@5, L17#error@5, token@5, or logit:0 for the first target. */
  nameOf(node) {
    const [layer, position] = [this.layer[node], this.position[node]];
    switch (this.kind[node]) {
      case FEATURE: return `L${layer}#${this.feature[node]}@${position}`;
      case ERROR: return `L${layer}#error@${position}`;
      case TOKEN: return `token@${position}`;
      default: return `logit:${node - this.firstLogit}`;
    }
  }

  /** Return the node with a name, or -1. */
  nodeOf(name) {
    this.numbers ??= new Map(Array.from({ length: this.size }, (_, node) => [this.nameOf(node), node]));
    return this.numbers.get(name) ?? -1;
  }

  /** Return the entry of a node among the targets, undefined for one that is none. */
  targetAt(node) {
    return this.info.targets.find((target) => target.node === node);
  }

  /** Number of the first target that is not a feature. */
  get firstLogit() {
    this.logitStart ??= this.kind.indexOf(LOGIT) < 0 ? this.size : this.kind.indexOf(LOGIT);
    return this.logitStart;
  }

  /** Outgoing edges in the same form: numbers of edges by source. Made when first asked for. */
  get outgoing() {
    return (this.out ??= transposed(this.indptr, this.sources, this.size));
  }

  /** Sum of the absolute weights of the edges into each node, a Float64Array. Made when first asked for. */
  get rowSums() {
    return (this.sums ??= absoluteSums(this.indptr, this.weights));
  }

  #column(name) {
    return this.table.getChild(name).data[0];
  }
}

/**
 * Return the draws of a sampled graph, as graphs/sampling.py: `index` has the number of each drawn row, -1 for others; factor r of
 * drawn row d is factors[d * replicates + r].
 */
function drawsOf(column, replicates) {
  const index = new Int32Array(column.length).fill(-1);
  const lists = [];
  for (let row = 0; row < index.length; row++) {
    const list = listOf(column, row);
    if (list) index[row] = lists.push(list) - 1;
  }
  const factors = new Float64Array(lists.length * replicates);
  lists.forEach((list, draw) => factors.set(list, draw * replicates));
  return { index, factors, replicates };
}

function absoluteSums(indptr, weights) {
  const sums = new Float64Array(indptr.length - 1);
  for (let row = 0; row < sums.length; row++) {
    for (let edge = indptr[row]; edge < indptr[row + 1]; edge++) sums[row] += Math.abs(weights[edge]);
  }
  return sums;
}

/** Return {indptr, edges, targets}: the numbers of the edges out of each node, and the node that each ends in. */
function transposed(indptr, sources, size) {
  const starts = new Int32Array(size + 1);
  for (const source of sources) starts[source + 1]++;
  for (let node = 0; node < size; node++) starts[node + 1] += starts[node];
  const next = starts.slice(0, size);
  const [edges, targets] = [new Int32Array(sources.length), new Int32Array(sources.length)];
  for (let target = 0; target < size; target++) {
    for (let edge = indptr[target]; edge < indptr[target + 1]; edge++) {
      const place = next[sources[edge]]++;
      edges[place] = edge;
      targets[place] = target;
    }
  }
  return { indptr: starts, edges, targets };
}

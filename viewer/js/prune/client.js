// The pruner of a graph: asks a worker.

import { ERROR, LOGIT, TOKEN } from "../data/graph.js";
import { startWorker } from "../data/workers.js";

/**
 * Start a worker, and return a function that gives it a graph and returns the pruner of the graph:
 *   limits           the most that a user can ask for: {nodeThreshold, edgeThreshold, keepErrors}, less for a pruned graph
 *   prune(options)   promise of what `prune` of ./prune.js returns, and of `ms`, the time that it took. While one request runs,
 *                    later ones wait; a request that a newer one overtakes gets the answer of the newest
 *   scores(mask)     promise of {replacement, completeness} of some nodes, as `Graph.scores(nodes)`; those of a sampled graph have
 *                    intervals too
 */
export function startPruner() {
  const ask = questions(startWorker("worker-prune"));
  return (graph) => {
    const { values, transfer } = message(graph);
    const opened = ask("open", values, transfer);
    const answer = async (method, argument) => (await Promise.all([opened, ask(method, argument)]))[1];
    const limits = limitsOf(graph.info.pruning);
    return { limits, prune: latestWins((options) => answer("prune", within(options, limits))), scores: (mask) => answer("scores", mask) };
  };
}

function questions(worker) {
  const waiting = new Map();
  let last = 0;
  let failure = null; // of the worker as a whole: it answers nothing after that
  worker.onmessage = ({ data: { id, result, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  };
  worker.onerror = (event) => {
    failure = new Error(event.message || "its worker does not run");
    waiting.forEach(({ reject }) => reject(failure));
    waiting.clear();
  };
  return (method, values, transfer = []) =>
    new Promise((resolve, reject) => {
      if (failure) throw failure;
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, method, values }, transfer);
    });
}

/** Return `call` with at most one call running: those that come meanwhile share one call, with the newest argument. */
function latestWins(call) {
  let [running, waiting, newest] = [false, [], null];
  const next = async () => {
    const asking = waiting;
    [running, waiting] = [true, []];
    const answer = call(newest);
    asking.forEach((resolve) => resolve(answer));
    await answer.catch(() => {});
    running = false;
    if (waiting.length) next();
  };
  return (argument) =>
    new Promise((resolve) => {
      newest = argument;
      waiting.push(resolve);
      if (!running) next();
    });
}

/** Return what the worker needs of a graph, in arrays of its own. Weights are absolute: nothing in pruning has a sign. */
function message(graph) {
  const { info, kind } = graph;
  const first = (code) => {
    const node = kind.findIndex((each) => each >= code);
    return node < 0 ? graph.size : node;
  };
  const leftOut = graph.table.getChild("left_out")?.data[0].values ?? null;
  const targetWeights = new Float64Array(graph.size);
  for (const { node, weight } of info.targets) targetWeights[node] += weight;
  const csr = {
    indptr: graph.indptr instanceof Int32Array ? graph.indptr.slice() : Int32Array.from(graph.indptr, Number),
    sources: graph.sources.slice(),
    weights: absolute(graph.weights),
  };
  const columns = {
    targetWeights,
    computed: graph.computed.slice(),
    influence: Float64Array.from(graph.influence),
    influenceBound: Float64Array.from(graph.influence_bound),
    layer: graph.layer.slice(),
    position: graph.position.slice(),
    leftOut: leftOut && Float64Array.from(leftOut),
  };
  const order = { errors: first(ERROR), tokens: first(TOKEN), logits: first(LOGIT) };
  const lacksRows = info.traced.bound > 0 && !info.pruning && !leftOut;
  const draws = graph.draws && { ...graph.draws, index: graph.draws.index.slice(), factors: graph.draws.factors.slice() };
  const arrays = [...Object.values(csr), ...Object.values(columns), draws?.index, draws?.factors].filter(Boolean);
  return { values: { csr, ...columns, order, held: info.pruning, lacksRows, draws }, transfer: arrays.map((array) => array.buffer) };
}

function absolute(weights) {
  const result = new Float64Array(weights.length);
  for (let edge = 0; edge < result.length; edge++) result[edge] = Math.abs(weights[edge]);
  return result;
}

function limitsOf(held) {
  return { nodeThreshold: held?.node_threshold ?? 1, edgeThreshold: held?.edge_threshold ?? 1, keepErrors: held?.keep_errors ?? true };
}

/** Return options that ask for no more than the graph holds. */
function within(options, limits) {
  return {
    nodeThreshold: Math.min(options.nodeThreshold, limits.nodeThreshold),
    edgeThreshold: Math.min(options.edgeThreshold, limits.edgeThreshold),
    keepErrors: options.keepErrors && limits.keepErrors,
  };
}

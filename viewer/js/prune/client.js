// The pruner of a graph: asks the worker, and the latest request wins.

import { startWorker } from "../data/workers.js";

/** Return the pruner of a graph. */
export function createPruner(graph) {
  const worker = startWorker("worker-prune");
  const waiting = new Map();
  let last = 0;
  worker.onmessage = ({ data }) => {
    waiting.get(data.id)?.(data.result);
    waiting.delete(data.id);
  };
  const ask = (method, values) =>
    new Promise((resolve) => {
      waiting.set(++last, resolve);
      worker.postMessage({ id: last, method, values });
    });
  return { prune: (options) => ask("prune", { ...options, size: graph.size, edges: graph.edges }), scores: (mask) => ask("scores", { mask }) };
}

// The worker: gets the graph once, then prunes it and scores parts of it beside the page.

import { prunable, prune } from "./prune.js";
import { scoresOf } from "./scores.js";

let graph = null;

const METHODS = {
  open(values) {
    graph = prunable(values);
    return {};
  },
  prune(options) {
    const began = performance.now();
    const result = prune(graph, options);
    return { ...result, ms: performance.now() - began };
  },
  scores: (mask) => scoresOf(graph, mask),
};

self.onmessage = ({ data: { id, method, values } }) => {
  try {
    const result = METHODS[method](values);
    self.postMessage({ id, result }, [result.nodes, result.edges].filter(Boolean).map((array) => array.buffer));
  } catch (error) {
    self.postMessage({ id, error: `${method}: ${error.message}` });
  }
};

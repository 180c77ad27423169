// The worker: prunes graphs and scores subgraphs beside the page. Placeholder result: everything is kept.

self.onmessage = ({ data: { id, method, values } }) => {
  self.postMessage({ id, result: METHODS[method](values) });
};

const METHODS = {
  prune: ({ size, edges }) => ({
    nodes: new Uint8Array(size).fill(1),
    edges: Uint32Array.from({ length: edges }, (_, edge) => edge),
    scores: { replacement: NaN, completeness: NaN },
    hidden: { nodes: 0, share: 0 },
    ms: 0,
  }),
  scores: () => ({ replacement: NaN, completeness: NaN }),
};

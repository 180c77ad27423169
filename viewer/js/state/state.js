// The first state of a page. Nodes are named as `GraphData.nameOf` does.

/** Return the state of a file before a user changes anything. */
export function fileState(graph) {
  const held = graph.info.pruning;
  return {
    nodeThreshold: Math.min(0.8, held?.node_threshold ?? 1), // defaults: graphs/prune.py
    edgeThreshold: Math.min(0.98, held?.edge_threshold ?? 1),
    keepErrors: false,
    target: null, // number of a target in info.targets; null for all
    sizeBy: "influence", // or "effect"
    pins: [], // names, the last one is shown in the panel
    selected: [],
    groups: (graph.info.groups ?? []).map((group) => ({ ...group })), // {name, nodes: [name], source?, reason?, label?}
    labels: {}, // by name without position, such as L17#264: the user's labels since the page was opened
    dismissed: [], // names of suggestions that the user does not want
    moved: {}, // by name: [dx, dy] in units of the layout
    collapsed: [], // [first, last] positions that are one column
    view: null, // {x, y, scale}; null fits
  };
}

/** Return the first state of a page of some files. */
export function initialState(files) {
  return {
    page: { file: 0, layout: "one", tab: "table", theme: "auto" }, // layout: one, side, overlay
    files: files.map((file) => fileState(file.graph)),
  };
}

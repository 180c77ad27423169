// What every part of the panel needs of one file: its graph, its state, and what is shown of it now.

import { influenceName, nodeInfluence } from "../circuit/strength.js";
import { labelOf } from "../data/labels.js";
import { shownEdges } from "./edges.js";

/** Return {app, file, graph, extras, state, influence, influenceName, shown, isShown, label, open, light} of a file; `open` shows a name in the panel. */
export function contextOf(app, file, open = () => {}) {
  const { graph, extras } = app.files[file];
  return {
    app,
    file,
    graph,
    extras,
    open,
    get state() {
      return app.store.file(file);
    },
    /** The influence of every node on the chosen target, or on all, and what it is called. */
    get influence() {
      return nodeInfluence(graph, app.store.file(file).target);
    },
    get influenceName() {
      return influenceName(graph, app.store.file(file).target);
    },
    /** Whether each edge is shown, a Uint8Array; null before the first pruning. */
    get shown() {
      return shownEdges(graph, app.results[file]);
    },
    isShown: (node) => !app.results[file] || app.results[file].nodes[node] === 1,
    label: (node) => labelOf(graph, node, app.store.file(file).labels),
    /** Light a node up in the circuit, or none; the panel shows no card for it. */
    light: (node) => app.emit("hover", node),
  };
}

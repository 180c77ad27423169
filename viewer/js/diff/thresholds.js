// Pruning of two graphs that are seen together: one set of thresholds for both.

const KEYS = ["nodeThreshold", "edgeThreshold", "keepErrors"];
const HELD = { nodeThreshold: "node_threshold", edgeThreshold: "edge_threshold" };

/** While both graphs are seen, prune one as a user prunes the other, as far as it has nodes and edges for that. */
export function linkThresholds(app) {
  let isLinking = false;
  app.store.subscribe(({ file, keys }) => {
    const changed = KEYS.filter((key) => keys.includes(key));
    if (isLinking || !changed.length || file === null || file > 1 || app.store.page.layout === "one") return;
    const other = 1 - file;
    isLinking = true;
    app.store.update(other, Object.fromEntries(changed.map((key) => [key, possible(app, other, key, app.store.file(file)[key])])));
    isLinking = false;
  });
}

function possible(app, file, key, value) {
  return key in HELD ? Math.min(value, app.files[file].graph.info.pruning?.[HELD[key]] ?? 1) : value;
}

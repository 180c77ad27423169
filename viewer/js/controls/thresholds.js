// The thresholds of the files of a page: one file's, or the same for all.

import { fileState } from "../state/state.js";

/** Per threshold: key in the state, title, what it is, keys that lower and raise it. */
export const THRESHOLDS = [
  { key: "nodeThreshold", title: "Nodes", keys: [",", "."], help: "Keep the most influential nodes until they hold this share of all influence" },
  { key: "edgeThreshold", title: "Edges", keys: ["<", ">"], help: "Keep the strongest edges between these nodes until they hold this share of the influence along edges" },
];
const STEP = 0.02; // of a key
const DIGITS = 3;

/** Return the options of pruning of the current file, and what changes them; with `together`, those of all files. */
export function createThresholds(app) {
  const number = () => app.store.page.file;
  const limits = (file = number()) => app.files[file].pruner.limits;
  const changed = () => (thresholds.together ? app.files.map((_, file) => file) : [number()]);
  const thresholds = {
    together: true,
    get: () => app.store.file(number()),
    limits,
    /** Set a threshold, or whether error nodes are kept, limited to what each file allows. */
    set(key, value) {
      for (const file of changed()) {
        const most = limits(file)[key];
        app.store.update(file, { [key]: key === "keepErrors" ? value && most : clamped(value, most) });
      }
    },
    step(key, direction) {
      thresholds.set(key, Number((app.store.file(number())[key] + direction * STEP).toFixed(DIGITS)));
    },
    reset() {
      for (const file of changed()) {
        const { nodeThreshold, edgeThreshold, keepErrors } = fileState(app.files[file].graph);
        app.store.update(file, { nodeThreshold, edgeThreshold, keepErrors });
      }
    },
  };
  return thresholds;
}

function clamped(value, most) {
  return Math.min(Math.max(value, 0), most);
}

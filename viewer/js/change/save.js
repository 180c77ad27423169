// Save into the graph file on disk, through the local server.

import { openDialog } from "../ui/dialog.js";
import { canLabel, labelKey } from "../data/labels.js";
import { changesOf } from "../state/state.js";

/** What messages are about that say why the server does not do something. */
export const SERVER = "server";

const STALE = 412; // status: the file changed since it was read
const written = new WeakMap(); // by file: keys of the labels that this page has saved

/**
 * Save groups, labels and the rest of the state of a file; return whether that worked. `places` are those of the shell. If the
 * file was changed on disk since it was read, the user chooses.
 */
export async function saveToServer(app, places, number, options = {}) {
  const file = app.files[number];
  const { name } = file;
  const state = savedState(app, number);
  const labels = { ...labelsPutBack(file, state.labels), ...state.labels };
  try {
    await app.server.save(number, { ...state, labels }, options);
    written.set(file, Object.keys(labels));
    places.toasts.show(`Saved ${name}`);
    return true;
  } catch (error) {
    if (error.status === STALE) askAboutConflict(app, places, number);
    else places.toasts.show(`Not saved: ${error.message}`, { tone: "bad", about: SERVER });
    return false;
  }
}

/** Return what a file keeps: groups and labels where every tool finds them, and how the page was left. */
export function savedState(app, number) {
  const { groups, labels } = app.store.file(number);
  const page = { ...changesOf(app.store.state, app.files).files[number] };
  delete page.groups;
  delete page.labels;
  return { groups, labels, page };
}

/** Return the labels of the file as the page read it, where this page has saved others that are undone since. */
function labelsPutBack(file, labels) {
  const undone = (written.get(file) ?? []).filter((key) => !Object.hasOwn(labels, key));
  return Object.fromEntries(undone.map((key) => [key, labelInFile(file.graph, key)]));
}

function labelInFile(graph, key) {
  const node = graph.kind.findIndex((_, each) => canLabel(graph, each) && labelKey(graph, each) === key);
  const text = graph.texts("label")[node];
  return text ? { text, source: graph.texts("label_source")[node] } : "";
}

/** Show the file as it is on disk: without the changes of this page, which are in its address. */
export function reloadFromDisk() {
  location.replace(location.pathname);
}

function askAboutConflict(app, places, number) {
  openDialog({
    title: `${app.files[number].name} was changed on disk`,
    content: "Another window or program has saved the file since this page read it. Overwriting it replaces the other groups, and labels that you changed too.",
    actions: [
      { title: "Keep editing" },
      { title: "Reload without my changes", run: reloadFromDisk },
      { title: "Overwrite", primary: true, run: () => void saveToServer(app, places, number, { overwrite: true }) },
    ],
  });
}

// The application: files, state, commands and events, which every part of the page gets.

import { partBytes, partJson, textOf } from "./data/parts.js";
import { GraphData } from "./data/graph.js";
import { printable } from "./data/visible.js";
import { readWorkers } from "./data/workers.js";
import { startPruner } from "./prune/client.js";
import { createCommands } from "./ui/commands.js";
import { createClient } from "./change/client.js";
import { createStore } from "./state/store.js";
import { firstChanges, keepsPicture, restoredState } from "./state/portable.js";
import { stateOf } from "./state/state.js";

/**
 * Read the parts of the page and return the application. Of a page that has its first picture ready, the application may only have what
 * that needs: a graph without the edges and values of what is hidden, which is `app.files[0].first` with the result of pruning it as
 * usual. `app.complete()` reads the rest.
 */
export async function createApp() {
  const header = JSON.parse(textOf("page"));
  const workers = readWorkers();
  const files = header.files.map(({ name }, number) => ({ name, number, graph: null, extras: {}, isCompared: Boolean(header.diff), pruner: null, first: null }));
  const complete = () => Promise.all(files.filter(({ pruner }) => !pruner).map(readFile));
  await (header.first ? Promise.all([readFirst(files[0]), workers]) : workers.then(complete));
  const { changes, damaged } = await firstChanges(files);
  if (files[0].first && !keepsPicture(changes)) {
    files[0].first = null;
    await complete();
  }
  const diff = header.diff ? await partJson("diff") : null;
  const store = createStore(stateOf(changes, files));
  const listeners = new Map();
  return {
    header,
    files,
    complete,
    diff, // how the first two files correspond, as viewer/page/diff_payload.py; null without a second one
    server: createClient(header.server), // the client of the local server, or null
    store,
    /** Show the state of a link, null for that of the page without one; undo takes it back. */
    restore: (changes) => store.load(restoredState(changes, files), "open the link"),
    linkDamaged: damaged, // the link that opened the page could not be read
    commands: createCommands(),
    bands: files.map(() => []), // per file: [{first, last, name, tone}] behind the circuit
    results: files.map(() => null), // per file: the last result of the pruner
    on(event, listener) {
      listeners.set(event, [...(listeners.get(event) ?? []), listener]);
    },
    emit(event, data) {
      for (const listener of listeners.get(event) ?? []) listener(data);
    },
    /** Let a screen reader say a text, also where it is the last one again. */
    announce(text) {
      const live = document.getElementById("live");
      const said = printable(text);
      live.textContent = live.textContent === said ? `${said}\u00a0` : said;
    },
  };
}

/** Read what the first picture of a file needs. */
async function readFirst(file) {
  const graph = new GraphData(await partBytes("first"));
  file.graph = graph;
  file.first = { graph, result: { nodes: graph.kept, edges: Uint32Array.from(graph.sources.keys()) } };
}

/** Read a file as a whole, and start its pruner. */
async function readFile(file) {
  const prunerOf = startPruner(); // starts while the file is unpacked
  const [bytes, extras] = await Promise.all([partBytes(`graph-${file.number}`), partJson(`extras-${file.number}`)]);
  const graph = new GraphData(bytes);
  Object.assign(file, { graph, extras, pruner: prunerOf(graph) });
}

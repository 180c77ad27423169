// The application: files, state, commands and events, which every part of the page gets.

import { partBytes, partJson, textOf } from "./data/parts.js";
import { GraphData } from "./data/graph.js";
import { printable } from "./data/visible.js";
import { readWorkers } from "./data/workers.js";
import { startPruner } from "./prune/client.js";
import { createCommands } from "./ui/commands.js";
import { createClient } from "./change/client.js";
import { createStore } from "./state/store.js";
import { firstState, restoredState } from "./state/portable.js";

/** Read the parts of the page and return the application. */
export async function createApp() {
  const header = JSON.parse(textOf("page"));
  await readWorkers();
  const files = await Promise.all(header.files.map((file, number) => readFile(file, number, Boolean(header.diff))));
  const diff = header.diff ? await partJson("diff") : null;
  const { state, damaged } = await firstState(files);
  const store = createStore(state);
  const listeners = new Map();
  return {
    header,
    files,
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

async function readFile({ name }, number, isCompared) {
  const prunerOf = startPruner(); // starts while the file is unpacked
  const [bytes, extras] = await Promise.all([partBytes(`graph-${number}`), partJson(`extras-${number}`)]);
  const graph = new GraphData(bytes);
  return { name, number, graph, extras, isCompared, pruner: prunerOf(graph) };
}

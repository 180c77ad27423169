// The page: read its parts, then mount every part of the application.

import { createApp } from "./app.js";
import { checkBrowser } from "./ui/browser.js";
import { mountPrint } from "./ui/print.js";
import { mountShell } from "./ui/shell.js";
import { mountShortcuts } from "./ui/shortcuts.js";
import { mountTour } from "./ui/tour.js";
import { mountCircuit } from "./circuit/mount.js";
import { mountControls } from "./controls/mount.js";
import { mountPanel } from "./panel/mount.js";
import { mountTable } from "./table/mount.js";
import { mountGroups } from "./groups/mount.js";
import { mountShare } from "./share/mount.js";
import { mountReport } from "./report/mount.js";
import { mountDiff } from "./diff/mount.js";
import { mountChange } from "./change/mount.js";

const PARTS = [mountControls, mountPanel, mountTable, mountGroups, mountShare, mountReport, mountDiff, mountChange];
/** Keys that work where the focus is, and are no commands. */
const KEYS_OF_ELEMENTS = {
  "In the circuit": [[["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "Next node in this direction"], [["Enter"], "Pin the node"], [[" "], "Select the node"]],
  "In tables": [[["ArrowUp", "ArrowDown"], "Next row"], [["Enter"], "Pin the row's node"], [[" "], "Select the row's node"]],
};

const PATIENCE_MS = 3000; // for the first picture: a page that cannot be seen paints none

const fallback = document.getElementById("fallback");

async function start() {
  checkBrowser();
  const app = await createApp();
  const root = document.getElementById("app");
  root.hidden = false; // parts measure their elements
  let pruned = app.files[0].first ? null : pruneAll(app); // by workers, while the parts are mounted
  const places = mountShell(app, root);
  mountCircuit(app, places);
  if (!pruned) {
    root.inert = true; // there is only a picture yet
    await firstPicture(app);
    await app.complete();
    pruned = pruneAll(app);
    root.inert = false;
  }
  pruneAgain(app, places);
  for (const mount of PARTS) mount(app, places);
  mountPrint(app, places);
  mountShortcuts(app, places, KEYS_OF_ELEMENTS);
  app.fallback = fallback; // a saved page has it again
  fallback.remove();
  document.addEventListener("keydown", (event) => app.commands.handle(event));
  globalThis.cotrace = app; // for the console, and for tests
  await pruned;
  document.documentElement.dataset.ready = "true";
  mountTour(app, places);
}

/** Return a promise of the first picture, which what else the page does would delay. */
function firstPicture(app) {
  if (document.hidden) return null;
  return Promise.race([app.circuit.seen(), new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
}

function pruneAll(app) {
  return Promise.all(app.files.map((_, number) => prune(app, number)));
}

/** Prune a file as its state says. */
async function prune(app, number) {
  const { nodeThreshold, edgeThreshold, keepErrors } = app.store.file(number);
  const result = await app.files[number].pruner.prune({ nodeThreshold, edgeThreshold, keepErrors });
  if (app.results[number] === result) return; // a newer request got it too
  app.results[number] = result;
  app.emit("pruned", { file: number, result });
}

/** Prune a file whenever its thresholds change. */
function pruneAgain(app, places) {
  const say = (error) => places.toasts.show(`The graph is not pruned: ${error.message}. Load the page again.`, { tone: "bad" });
  app.store.subscribe(({ file, keys }) => {
    if (file !== null && keys.some((key) => ["nodeThreshold", "edgeThreshold", "keepErrors"].includes(key))) prune(app, file).catch(say);
  });
}

/** Show what went wrong above the picture that every page has. */
function fail(error) {
  fallback.classList.add("failed"); // css/layout.css shows it
  document.body.replaceChildren(fallback); // also where it was taken out already
  fallback.querySelector("p").textContent = `This page cannot be shown: ${error.message}. Here is the picture.`;
  throw error;
}

start().catch(fail);

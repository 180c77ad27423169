import { savedState, saveToServer } from "../change/save.js";
import { copyText } from "../ui/clipboard.js";
import { followAddress, linkOf, LONGEST_LINK } from "./address.js";
import { arrowBytes } from "./arrow_file.js";
import { download, nameWith } from "./download.js";
import { neuronpediaParts } from "./neuronpedia.js";
import { pngOf } from "./picture.js";
import { savedPage } from "./saved_page.js";

const [SHARE, EXPORT] = ["Share", "Export"]; // groups of the menu

/** Mount sharing: the address that follows the state, saving, and exports. */
export function mountShare(app, places) {
  followAddress(app, (text) => places.toasts.show(text, { tone: "bad" }));
  const add = (command) => {
    app.commands.add(command);
    places.menu.add(app.commands.get(command.id));
  };
  saveCommands(app, places).forEach((command) => add({ group: SHARE, ...command }));
  exportCommands(app).forEach((command) => add({ group: EXPORT, ...command, run: () => attempt(places, command.run) }));
}

function saveCommands(app, places) {
  const number = () => app.store.page.file;
  const savePage = () => download(nameWith(".html", app.files[number()].name), savedPage(app), "text/html");
  const hasAddress = () => location.protocol !== "about:"; // a page in a notebook has none
  const copyLink = async () => {
    const link = await linkOf(app);
    if (link.length > LONGEST_LINK) places.toasts.show("There are too many changes for a link. Save the page instead.", { tone: "bad" });
    else places.toasts.show((await copyText(link)) ? "Copied the link" : "Copy the link from the address bar.");
  };
  const obstacle = () => app.server.files[number()].obstacle;
  const saveTitle = () => (obstacle() ? `Cannot save: ${obstacle()}` : `Save into ${app.files[number()].name}`);
  const saveSeen = async () => {
    for (const each of app.store.page.layout === "one" ? [number()] : [0, 1]) await saveToServer(app, places, each);
  };
  const save = { id: "save", keys: ["Mod+S"], icon: "save", toolbar: "page" };
  return [
    app.server
      ? { ...save, title: saveTitle, enabled: () => !obstacle(), run: saveSeen }
      : { ...save, title: "Save the page with your changes", run: savePage },
    ...(app.server ? [{ id: "save-page", title: "Save a page that needs no server", run: savePage }] : []),
    { id: "copy-link", title: "Copy a link to this view", keys: ["Shift+L"], icon: "link", enabled: hasAddress, run: copyLink },
  ];
}

function exportCommands(app) {
  const file = () => app.files[app.store.page.file];
  const state = () => app.store.file(app.store.page.file);
  const save = (ending, content, type) => download(nameWith(ending, file().name), content, type);
  const hasCircuit = () => Boolean(app.circuit);
  return [
    { id: "export-svg", title: "Picture of this view (SVG)", enabled: hasCircuit, run: () => save(".svg", app.circuit.svg(), "image/svg+xml") },
    { id: "export-png", title: "Picture of this view (PNG)", enabled: hasCircuit, run: async () => save(".png", await pngOf(app.circuit.svg()), "image/png") },
    { id: "export-whole", title: "Picture of the whole circuit (SVG)", enabled: hasCircuit, run: () => save(".svg", app.circuit.svg({ isWhole: true }), "image/svg+xml") },
    { id: "export-arrow", title: "Graph file with your changes (Arrow)", run: () => save(".arrow", arrowBytes(file().graph, savedState(app, file().number)), "application/vnd.apache.arrow.file") },
    { id: "export-json", title: "Graph for Neuronpedia (JSON)", run: () => save(".json", neuronpediaParts(file().graph, state()), "application/json") },
  ];
}

async function attempt(places, run) {
  try {
    await run();
  } catch (error) {
    places.toasts.show(`Not exported: ${error.message}`, { tone: "bad" });
  }
}

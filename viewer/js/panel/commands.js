// What a user can do with the side panel by key and button.

import { queryName } from "../state/subject.js";
import { copyText } from "../ui/clipboard.js";
import { isGroupKey } from "./group_view.js";

/** Register the commands of the panel. */
export function addCommands(app, places, panel) {
  const add = (id, title, keys, run, enabled = () => true) =>
    app.commands.add({ id: `panel.${id}`, title, keys, run, enabled, group: "Details" });
  const isShown = () => panel.selection.current !== null && !panel.selection.isComparing;
  const hasPins = (least) => () => panel.selection.tabs.length >= least;
  add("enter", "Go to the details", ["Shift+I"], () => {
    places.showPanel();
    panel.body.focus();
  });
  add("pin", "Pin or unpin what the details show", ["P"], () => panel.togglePin(), () => isShown() && !isGroupKey(panel.selection.current));
  add("label", "Edit the label, or the name of a group", ["L"], () => panel.edit(), isShown);
  add("copy", "Copy the name of what the details show", [], () => copyName(app.files[panel.file].graph, panel, places), isShown);
  add("back", "Back to what the details showed before", ["Backspace"], () => panel.change((selection) => selection.back()),
    () => panel.selection.canGoBack);
  add("close", "Leave what the details show", ["Escape"], () => panel.show(null), () => panel.selection.current !== null);
  add("next", "Next pin", ["]"], () => panel.change((selection) => selection.step(1)), hasPins(1));
  add("previous", "Previous pin", ["["], () => panel.change((selection) => selection.step(-1)), hasPins(1));
  add("compare", "Compare the pins", ["Shift+P"], () => panel.change((selection) => selection.compare()), hasPins(2));
}

/** Copy the name of what is shown, as `graph.find` reads it. */
async function copyName(graph, { selection }, places) {
  const name = queryName(graph, selection.current);
  if (await copyText(name)) places.toasts.show(`Copied ${name}`);
}

// Commands on groups, and undo and redo of everything that can be undone.

import { groupsWith } from "./members.js";

/** Register the commands. `tab` is {show, editName} of the list of groups. */
export function addCommands(app, actions, tab) {
  const { commands, store } = app;
  const add = (command) => commands.add({ group: "Groups", ...command });
  const chosen = () => (actions.selected().length ? actions.selected() : pinned());
  const pinned = () => actions.state().pins.slice(-1).map((name) => actions.file().graph.nodeOf(name));
  const chosenGroups = () => groupsWith(actions.file().graph, actions.state().groups, chosen());
  const inGroup = () => chosenGroups().length > 0;

  add({ id: "group", title: "Group the selection", keys: ["G"], enabled: () => actions.selected().length > 1, run: () => actions.group(actions.selected()) });
  add({ id: "ungroup", title: "Ungroup", keys: ["Shift+G"], enabled: inGroup, run: () => actions.ungroup(chosenGroups()) });
  add({ id: "leave-group", title: "Take nodes out of their group", keys: [], enabled: inGroup, run: () => actions.remove(chosen()) });
  add({
    id: "rename-group",
    title: "Rename the group",
    keys: ["F2"],
    enabled: () => chosenGroups().length === 1,
    run() {
      tab.show();
      tab.editName(chosenGroups()[0]);
    },
  });
  add({ id: "select-group", title: "Select the nodes of the group", keys: [], enabled: inGroup, run: () => actions.selectGroups(chosenGroups()) });
  add({
    id: "accept-suggestion",
    title: "Accept the suggested groups of the selection",
    keys: ["A"],
    enabled: () => suggestionsHere().length > 0,
    run: () => actions.accept(suggestionsHere()),
  });
  add({ id: "accept-suggestions", title: "Accept all suggested groups", keys: [], enabled: () => actions.suggestions().length > 0, run: () => actions.accept(actions.suggestions()) });
  const suggestionsHere = () => {
    const nodes = new Set(chosen());
    return nodes.size ? actions.suggestions().filter(({ members }) => members.some((node) => nodes.has(node))) : [];
  };

  const history = (verb, step) => () => {
    const title = store[step]();
    if (title !== null) app.announce(`${verb}: ${title}`);
  };
  const edit = (command) => commands.add({ group: "Edit", ...command });
  edit({ id: "undo", title: "Undo", detail: () => store.undoTitle, keys: ["Mod+Z"], enabled: () => store.undoTitle !== null, run: history("Undone", "undo") });
  edit({ id: "redo", title: "Redo", detail: () => store.redoTitle, keys: ["Mod+Shift+Z", "Mod+Y"], enabled: () => store.redoTitle !== null, run: history("Redone", "redo") });
}

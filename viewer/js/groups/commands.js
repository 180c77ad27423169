// Commands on groups, and undo and redo of everything that can be undone.

import { groupsWith } from "./members.js";

/** Register the commands. `tab` is {show, editName} of the list of groups, and `say`, which shows a message. */
export function addCommands(app, actions, tab) {
  const add = (command) => app.commands.add({ group: "Groups", ...command });
  const pinned = () => actions.state().pins.slice(-1).map((name) => actions.file().graph.nodeOf(name)).filter((node) => node >= 0);
  const chosen = () => (actions.selected().length ? actions.selected() : pinned());
  const chosenGroups = () => groupsWith(actions.file().graph, actions.state().groups, chosen());
  const suggestionsHere = () => {
    const nodes = new Set(chosen());
    return nodes.size ? actions.suggestions().filter(({ members }) => members.some((node) => nodes.has(node))) : [];
  };
  const openGroup = () => {
    tab.show();
    tab.editName(chosenGroups()[0]);
  };

  add({ id: "group", title: "Group the selected nodes", keys: ["G"], icon: "group", toolbar: "edit",
    enabled: () => actions.state().selected.length > 0, run: () => groupSelected(actions, tab) });
  add({ id: "ungroup", title: "Ungroup", keys: ["Shift+G"], icon: "ungroup", toolbar: "edit",
    enabled: () => chosenGroups().length > 0, run: () => actions.ungroup(chosenGroups()) });
  add({ id: "rename-group", title: "Rename the group", keys: ["F2"], enabled: () => chosenGroups().length === 1, run: openGroup });
  add({ id: "leave-group", title: "Take nodes out of their group", keys: ["U"],
    enabled: () => chosenGroups().length > 0, run: () => actions.remove(chosen()) });
  add({ id: "select-group", title: "Select all nodes of the group", keys: ["Shift+S"],
    enabled: () => chosenGroups().length > 0, run: () => actions.selectGroups(chosenGroups()) });
  add({ id: "accept-suggestion", title: "Accept the group that is suggested for the node", keys: ["Y"],
    enabled: () => suggestionsHere().length > 0, run: () => actions.accept(suggestionsHere()) });
  add({ id: "accept-suggestions", title: "Accept all suggested groups",
    enabled: () => actions.suggestions().length > 0, run: () => actions.accept(actions.suggestions()) });
}

/** Group the selected nodes and offer the name for editing; or say why there is nothing to group. */
function groupSelected(actions, tab) {
  const nodes = actions.selected();
  if (nodes.length < 2) {
    const targets = actions.state().selected.length - nodes.length;
    return tab.say(targets > 0 ? "Targets stay out of groups: select two or more other nodes" : "A group needs at least two nodes: select more with Shift and a click");
  }
  const name = actions.group(nodes);
  tab.show();
  return tab.editName(actions.groups().find((group) => group.name === name));
}

/** Register undo and redo. */
export function addHistory({ commands, store, announce }) {
  const add = (command) => commands.add({ group: "Edit", toolbar: "edit", repeats: true, ...command });
  const step = (verb, run) => () => announce(`${verb}: ${run()}`);
  const named = (verb, change) => () => (change() === null ? verb : `${verb}: ${change()}`);
  add({ id: "undo", title: named("Undo", () => store.undoTitle), keys: ["Mod+Z"], icon: "undo",
    enabled: () => store.undoTitle !== null, run: step("Undone", () => store.undo()) });
  add({ id: "redo", title: named("Redo", () => store.redoTitle), keys: ["Mod+Shift+Z", "Mod+Y"], icon: "redo",
    enabled: () => store.redoTitle !== null, run: step("Redone", () => store.redo()) });
}

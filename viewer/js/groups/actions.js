// What a user can do with groups. Every action is one change, which undo takes back.

import { pin } from "../state/pins.js";
import { counted } from "../ui/format.js";
import { freeName, groupNameProblem, isSuggested, membersOf, newName, openSuggestions, ownGroups, without } from "./members.js";

/** Return the actions on the groups of the file that is shown. */
export function createActions(app) {
  const shown = shownFile(app);
  return {
    file: shown.file,
    state: shown.state,
    ...readings(shown),
    ...groupActions(shown),
    ...suggestionActions(shown),
    ...selectionActions(app, shown),
  };
}

/** Return the file that is shown, its state, and how the state changes: {file, state, change, nodeName}. */
function shownFile(app) {
  const { store } = app;
  const file = () => app.files[store.page.file];
  return {
    file,
    state: () => store.file(store.page.file),
    nodeName: (node) => file().graph.nameOf(node),
    change(values, title) {
      store.update(store.page.file, values, title);
      app.announce(`${title[0].toUpperCase()}${title.slice(1)}`);
    },
  };
}

function readings({ file, state }) {
  return {
    /** Return the groups that the user made or accepted. */
    groups: () => ownGroups(state().groups),
    /** Return the open suggestions. */
    suggestions: () => openSuggestions(file().graph, state(), file().extras.suggested ?? []),
    /** Return the nodes that are selected and can be in a group: a target that is no feature cannot. */
    selected: () => state().selected.map((name) => file().graph.nodeOf(name)).filter((node) => node >= 0 && node < file().graph.firstLogit),
  };
}

function groupActions({ file, state, change, nodeName }) {
  return {
    /** Make a group of nodes, which leave the groups that they were in; return its name. */
    group(nodes) {
      const { graph } = file();
      const name = newName(graph, state(), nodes);
      const groups = [...without(graph, state().groups, nodes), { name, nodes: nodes.map(nodeName) }];
      change({ groups }, `group ${counted(nodes.length, "node")} as "${name}"`);
      return name;
    },
    /** Rename a group, then call `done`; or return why that is not possible. */
    rename(group, name, done) {
      const problem = name === group.name ? "" : groupNameProblem(name, state().groups, group);
      if (problem) return problem;
      done();
      if (name !== group.name) {
        const groups = state().groups.map((each) => (each === group ? { ...group, name } : each));
        change({ groups, ...placesOf(state(), `group:${group.name}`, `group:${name}`) }, `rename "${group.name}" to "${name}"`);
      }
      return "";
    },
    ungroup(groups) {
      const title = groups.length === 1 ? `ungroup "${groups[0].name}"` : `ungroup ${counted(groups.length, "group")}`;
      change({ groups: state().groups.filter((group) => !groups.includes(group)) }, title);
    },
    /** Add nodes to a group; they leave the groups that they were in. */
    add(group, nodes) {
      const { graph } = file();
      const have = new Set(membersOf(graph, group));
      const added = nodes.filter((node) => !have.has(node));
      const grown = { ...group, nodes: [...group.nodes, ...added.map(nodeName)] };
      const groups = state().groups.flatMap((each) => (each === group ? [grown] : without(graph, [each], added)));
      change({ groups }, `add ${counted(added.length, "node")} to "${group.name}"`);
    },
    /** Take nodes out of their groups. */
    remove(nodes) {
      const title = nodes.length === 1 ? `take ${nodeName(nodes[0])} out of its group` : `take ${counted(nodes.length, "node")} out of their groups`;
      change({ groups: without(file().graph, state().groups, nodes) }, title);
    },
  };
}

function suggestionActions({ file, state, change, nodeName }) {
  const withAccepted = (groups, { name, members, reason, label }) => {
    const others = groups.filter((group) => !(isSuggested(group) && group.name === name));
    const free = groupNameProblem(name, others) ? freeName(name, file().graph, { ...state(), groups: others }) : name;
    return [...others, { name: free, nodes: members.map(nodeName), ...(reason && { reason }), ...(label && { label }) }];
  };
  return {
    accept(suggestions) {
      const title = suggestions.length === 1 ? `accept "${suggestions[0].name}"` : `accept ${counted(suggestions.length, "suggestion")}`;
      change({ groups: suggestions.reduce(withAccepted, state().groups) }, title);
    },
    dismiss(suggestions) {
      const title = suggestions.length === 1 ? `dismiss "${suggestions[0].name}"` : `dismiss ${counted(suggestions.length, "suggestion")}`;
      const names = suggestions.map(({ name }) => name);
      const groups = state().groups.filter((group) => !(isSuggested(group) && names.includes(group.name)));
      change({ groups, dismissed: [...new Set([...state().dismissed, ...names])] }, title);
    },
  };
}

function selectionActions(app, { file, nodeName }) {
  const { store } = app;
  const select = (nodes) => store.update(store.page.file, { selected: nodes.map(nodeName) });
  return {
    /** Light up the box of a group in the circuit, or none for null. */
    light: (group) => store.page.layout === "one" && app.circuit?.hover(group && `group:${group.name}`),
    /** Show a group or suggestion in the side panel. */
    show: (name) => app.emit("group", `group:${name}`),
    selectGroups: (groups) => select(groups.flatMap((group) => membersOf(file().graph, group))),
    select,
    pin(node) {
      pin(app, store.page.file, nodeName(node));
    },
  };
}

/** Return where a group is and whether it is open, as values of the state, under its new key; undo needs the old key of an open one. */
function placesOf({ moved, opened }, before, after) {
  const { [before]: place, ...others } = moved;
  return {
    moved: place ? { ...others, [after]: place } : others,
    opened: opened.includes(before) ? [...opened, after] : opened.filter((key) => key !== after),
  };
}

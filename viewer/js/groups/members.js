// Groups of a file as lists of its nodes. A group is {name, nodes: [name], source?, reason?, label?}; it is never changed in place.
// A group of the file whose source is "suggested" is a suggestion until the user accepts it (graphs/grouping/stored.py).

import { labelOf } from "../data/labels.js";
import { nameProblem, nodesNamed } from "../state/names.js";

const LONGEST_STEM = 40; // characters of a label that names a group
const found = new WeakMap();

/** Return whether a group is a suggestion that came with the file. */
export function isSuggested(group) {
  return group.source === "suggested";
}

/** Return the groups that the user made or accepted. */
export function ownGroups(groups) {
  return groups.filter((group) => !isSuggested(group));
}

/** Return the numbers of the nodes of a group that are in the graph. */
export function membersOf(graph, group) {
  if (!found.has(group)) found.set(group, [...new Set(group.nodes.flatMap((name) => nodesNamed(graph, name)))]);
  return found.get(group);
}

/** Return a mask of the nodes in any of some groups. */
export function maskOf(graph, groups) {
  const mask = new Uint8Array(graph.size);
  for (const group of groups) for (const node of membersOf(graph, group)) mask[node] = 1;
  return mask;
}

/** Return the user's groups that have any of some nodes. */
export function groupsWith(graph, groups, nodes) {
  const wanted = new Set(nodes);
  return ownGroups(groups).filter((group) => membersOf(graph, group).some((node) => wanted.has(node)));
}

/** Return groups in which the user's are without some nodes; one that has none left is gone. What was pruned from the graph stays. */
export function without(graph, groups, nodes) {
  const gone = new Set(nodes);
  return groups.flatMap((group) => {
    const members = membersOf(graph, group);
    if (isSuggested(group) || !members.some((node) => gone.has(node))) return [group];
    const pruned = group.nodes.filter((name) => nodesNamed(graph, name).length === 0);
    const kept = members.filter((node) => !gone.has(node)).map((node) => graph.nameOf(node));
    return kept.length ? [{ ...group, nodes: [...kept, ...pruned] }] : [];
  });
}

/** Return why a group cannot have a name, or "" if it can. */
export function groupNameProblem(name, groups, self = null) {
  if (!name.trim()) return "the name of a group is empty; write some text";
  if (groups.some((group) => group !== self && group.name === name)) return `there is a group "${name}" already; choose another name`;
  return nameProblem(name);
}

/** Return a name that no group and no label has: the label of the most influential node with one, and a number. */
export function newName(graph, state, nodes) {
  const ranked = [...nodes].sort((a, b) => graph.influence[b] - graph.influence[a]);
  const label = ranked.map((node) => labelOf(graph, node, state.labels)?.text).find(Boolean) ?? "";
  return freeName(label && label.length <= LONGEST_STEM && !nameProblem(label) ? label : "group", graph, state);
}

/** Return a name with the least number that makes it one which no group and no label has. */
export function freeName(stem, graph, state) {
  const taken = new Set([...state.groups.map(({ name }) => name), ...graph.texts("label"), ...Object.values(state.labels)]);
  for (let number = 1; ; number++) if (!taken.has(`${stem} ${number}`)) return `${stem} ${number}`;
}

/**
 * Return the suggestions that are open: {name, members, …}, with the nodes that are in no group of the user's, at least two of
 * them. They are those of the file, and those that came with the page.
 */
export function openSuggestions(graph, state, suggested) {
  const grouped = maskOf(graph, ownGroups(state.groups));
  const dismissed = new Set(state.dismissed);
  return [...state.groups.filter(isSuggested), ...suggested]
    .filter(({ name }) => !dismissed.has(name))
    .map((suggestion) => ({ ...suggestion, members: membersOf(graph, suggestion).filter((node) => !grouped[node]) }))
    .filter(({ members }) => members.length > 1);
}

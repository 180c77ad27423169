// Groups of a file as lists of its nodes. A group is {name, nodes: [name], source?, reason?, label?}; it is never changed in place.

import { labelOf } from "../data/labels.js";
import { nameProblem, nodesNamed } from "../state/names.js";

/** Source of a group that is a suggestion which the user accepted (graphs/grouping/stored.py); a user's group has none. */
export const SUGGESTED = "suggested";
const LONGEST_STEM = 40; // characters of a label that names a group
const found = new WeakMap();

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

/** Return the groups that have any of some nodes. */
export function groupsWith(graph, groups, nodes) {
  const wanted = new Set(nodes);
  return groups.filter((group) => membersOf(graph, group).some((node) => wanted.has(node)));
}

/** Return a group with changes; what the user changed is no suggestion any more. */
export function changedGroup({ source, ...group }, changes) {
  void source;
  return { ...group, ...changes };
}

/** Return groups without some nodes; a group that has none left is gone. What was pruned from the graph stays. */
export function without(graph, groups, nodes) {
  const gone = new Set(nodes);
  return groups.flatMap((group) => {
    const members = membersOf(graph, group);
    if (!members.some((node) => gone.has(node))) return [group];
    const pruned = group.nodes.filter((name) => nodesNamed(graph, name).length === 0);
    const kept = members.filter((node) => !gone.has(node)).map((node) => graph.nameOf(node));
    return kept.length ? [changedGroup(group, { nodes: [...kept, ...pruned] })] : [];
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

/** Return the suggestions that are open: {name, members, …}, with the nodes that are in no group, at least two of them. */
export function openSuggestions(graph, state, suggested) {
  const grouped = maskOf(graph, state.groups);
  const dismissed = new Set(state.dismissed);
  return suggested
    .filter(({ name }) => !dismissed.has(name))
    .map((suggestion) => ({ ...suggestion, members: membersOf(graph, suggestion).filter((node) => !grouped[node]) }))
    .filter(({ members }) => members.length > 1);
}

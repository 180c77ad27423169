// Groups of nodes as one: a closed group is a node that has the edges of its members, an open one is a frame around them.

import { counted } from "../ui/format.js";

/**
 * Return a model with groups folded in.
 *
 * Nodes of closed groups give way to one node of kind "group", whose edges add up those of its members. Members of an open
 * group stay; each has the group's number in `nodes` as `inside`.
 *
 * Args: model without groups; groups, [{name, nodes: [name]}]; opened, a Set of names of groups.
 */
export function foldGroups(model, groups, opened) {
  const places = new Map(model.nodes.map((node, at) => [node.name, at]));
  const found = groups
    .map((group) => ({ ...group, members: group.nodes.map((name) => places.get(name)).filter((at) => at !== undefined) }))
    .filter((group) => group.members.length);
  if (!found.length) return model;
  const groupOf = new Map(found.flatMap((group, number) => group.members.map((at) => [at, number])));
  const stays = (at) => !groupOf.has(at) || opened.has(found[groupOf.get(at)].name);
  const kept = [...model.nodes.keys()].filter(stays);
  const index = new Int32Array(model.nodes.length);
  model.nodes.forEach((_, at) => (index[at] = stays(at) ? -1 : kept.length + groupOf.get(at)));
  kept.forEach((at, place) => (index[at] = place));
  const inside = (at) => (groupOf.has(at) ? { inside: kept.length + groupOf.get(at) } : {});
  const nodes = [...kept.map((at) => ({ ...model.nodes[at], ...inside(at) })), ...found.map((group) => groupNode(group, model.nodes, opened))];
  return { ...model, nodes, edges: foldedEdges(model.edges, index, kept.length) };
}

/** Return the node of a group: at the site of its strongest member. */
function groupNode(group, nodes, opened) {
  const members = group.members.map((at) => nodes[at]);
  const strongest = members.reduce((best, node) => (node.size > best.size ? node : best));
  const size = Math.min(1, members.reduce((sum, node) => sum + node.size, 0));
  const many = counted(members.length, "node");
  return {
    name: `group:${group.name}`, node: null, kind: "group", layer: strongest.layer, position: strongest.position, size,
    label: group.name, detail: many, title: `group ${group.name}, ${many}`, members: members.map((node) => node.name), isOpen: opened.has(group.name),
  };
}

/** Return edges with new ends; those that end in a group (a number from `firstGroup` on) are added up, inner ones left out. */
function foldedEdges(edges, index, firstGroup) {
  const count = edges.from.length;
  const [folded, places] = [Object.fromEntries(Object.entries(edges).map(([name, values]) => [name, values.slice()])), new Map()];
  let kept = 0;
  for (let edge = 0; edge < count; edge++) {
    const [from, to] = [index[edges.from[edge]], index[edges.to[edge]]];
    if (from === to) continue;
    const isFolded = from >= firstGroup || to >= firstGroup;
    const key = from * index.length * 2 + to;
    const place = isFolded ? (places.get(key) ?? kept) : kept;
    if (isFolded) places.set(key, place);
    if (place === kept) {
      for (const values of Object.values(folded)) values[place] = 0;
      [folded.from[place], folded.to[place]] = [from, to];
      kept++;
    }
    for (const name of ["weight", "mass"]) folded[name][place] += edges[name][edge];
    folded.share[place] = Math.max(folded.share[place], edges.share[edge]);
    if (edges.tone) folded.tone[place] = edges.tone[edge];
  }
  return Object.fromEntries(Object.entries(folded).map(([name, values]) => [name, values.subarray(0, kept)]));
}

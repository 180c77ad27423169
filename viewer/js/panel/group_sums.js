// Numbers of a group: edges and effects of its members, added up. Nothing here touches the document.

import { expectedEffect } from "../groups/figures.js";
import { membersOf } from "../groups/members.js";
import { inputsOf, outputsOf } from "./edges.js";

/** Return the numbers of the nodes of a group or of an open suggestion. */
export function groupMembers(graph, group) {
  return group.members ?? membersOf(graph, group);
}

/** Return [{node, weight, edges}] of the shown edges into some members from other nodes, summed by source, the largest first. */
export function groupInputs(graph, members, shown) {
  return summed(members, (node) => inputsOf(graph, node, shown));
}

/** Return the same of the edges out of the members, summed by target. */
export function groupOutputs(graph, members, shown) {
  return summed(members, (node) => outputsOf(graph, node, shown));
}

/**
 * Return {value, target}: the expected change of the chosen target, or of all by their weights, if the members are ablated, to first
 * order; null without effects.
 */
export function groupEffect(graph, members, chosen) {
  const { targets } = graph.info;
  const one = targets.length === 1 ? 0 : chosen;
  const effects = targets.map((_, target) => expectedEffect(graph, members, target));
  if (effects.includes(null) || !effects.length) return null;
  if (one !== null) return { value: effects[one], target: targets[one] };
  return { value: effects.reduce((sum, effect, target) => sum + effect * targets[target].weight, 0), target: null };
}

function summed(members, edgesOf) {
  const inside = new Set(members);
  const sums = new Map();
  for (const { node, weight, shown } of members.flatMap(edgesOf)) {
    if (!shown || inside.has(node)) continue;
    const sum = sums.get(node) ?? { node, weight: 0, edges: 0 };
    sum.weight += weight;
    sum.edges++;
    sums.set(node, sum);
  }
  return [...sums.values()].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight) || a.node - b.node);
}

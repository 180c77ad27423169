// Numbers of a group: its share of the influence, and what its ablation is expected to change.

import { heaviestOf, nodeInfluence } from "../circuit/strength.js";
import { FEATURE } from "../data/graph.js";

const totals = new WeakMap(); // influence of all features, by the influence of all nodes

/** Return the share of the influence of all features that some nodes hold; `target` is the number of the chosen one, null for all. */
export function influenceShare(graph, nodes, target) {
  const influence = nodeInfluence(graph, target);
  if (!totals.has(influence)) totals.set(influence, influence.reduce((sum, value, node) => sum + (graph.kind[node] === FEATURE ? value : 0), 0));
  return nodes.reduce((sum, node) => sum + influence[node], 0) / (totals.get(influence) || 1);
}

/** Return the expected change of a target when some nodes are ablated, or null in a graph without effects. */
export function expectedEffect(graph, nodes, target) {
  const effects = nodes.map((node) => graph.effects("expected_effect", node)?.[target] ?? null);
  return effects.includes(null) ? null : effects.reduce((sum, effect) => sum + effect, 0);
}

/** Return the number of the target that effects are about: the chosen one, or the heaviest. */
export function targetOf(graph, state) {
  const { targets } = graph.info;
  return state.target ?? targets.indexOf(heaviestOf(targets));
}

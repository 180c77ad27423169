// Effects of a node in numbers: what gradients expect of every target, and what ablations measured.

import { agreementOf } from "../data/agreement.js";

/**
 * Return the effects of a node on the targets: {targets: [{target, total, expected}], total, expected}, the last two averaged over
 * the targets by their weights. Null for a graph without effects and for targets at the unembedding.
 */
export function effectsOf(graph, node) {
  const expected = graph.effects("expected_effect", node);
  if (!expected) return null;
  const total = graph.effects("effect", node) ?? new Float64Array(expected.length).fill(NaN);
  const targets = graph.info.targets.map((target, at) => ({ target, total: total[at], expected: expected[at] }));
  return { targets, total: mean(targets, "total"), expected: mean(targets, "expected") };
}

/** Return the change that is expected of the chosen target, or of all by their weights, as {value, target}; null without effects. */
export function expectedChange(graph, node, chosen) {
  const effects = effectsOf(graph, node);
  if (!effects) return null;
  const one = effects.targets.length === 1 ? 0 : chosen;
  return one === null ? { value: effects.expected, target: null } : { value: effects.targets[one].expected, target: effects.targets[one].target };
}

/**
 * Return what an ablation of a node measured, averaged over the targets by their weights, beside what was expected: {measured,
 * estimate, isLive, control, kl, agreement}; `control` is the size of the effect of random features, or null; `agreement` is that of data/agreement.js. Null if the node was not
 * ablated alone.
 */
export function measuredOf(graph, node) {
  const row = graph.info.validation?.nodes.find((each) => each.node === node);
  if (!row) return null;
  const live = row.first_order_none ?? null; // of gradients of the live model
  const estimate = live ?? row.predicted; // or along the edges
  const { measured, kl, control_size: control = null } = row;
  return { measured, estimate, isLive: live !== null, control, kl, agreement: agreementOf(estimate, measured) };
}

function mean(targets, name) {
  return targets.reduce((sum, each) => sum + each.target.weight * each[name], 0);
}

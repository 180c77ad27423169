// How units and edges look: colour and form say where they are, as graphs/drawing/diff_scene.py.

import { h, s } from "../ui/dom.js";
import { TONES } from "../circuit/scene.js";
import { CHANGED, ONLY_A, ONLY_B, STATUSES } from "./comparison.js";

const COLOURS = ["side-a", "side-b"];

/** Return what a status adds to a node of a circuit: {form, fill} or {ring}. */
export function nodeLook(comparison, unit) {
  const status = comparison.units.status[unit];
  if (status < CHANGED) return {};
  const stronger = status === ONLY_A ? 0 : status === ONLY_B ? 1 : Number(comparison.change(unit) > 0);
  if (status === CHANGED || comparison.kinds[unit] !== "feature") return { ring: COLOURS[stronger] };
  return { form: stronger === 0 ? "left" : "right", fill: COLOURS[stronger] };
}

/** Return the number of an edge's colour in TONES: that of the graph where it is, or where it carries more. */
export function edgeTone(status, influenceA, influenceB) {
  const isOneSided = status >= ONLY_A || (status === CHANGED && influenceA !== influenceB);
  return TONES.indexOf(isOneSided ? COLOURS[Number(influenceB > influenceA)] : "side-both");
}

const SIGNS = {
  both: () => [s("circle", { cx: 8, cy: 8, r: 5 })],
  changed: () => [s("circle", { cx: 8, cy: 8, r: 4 }), s("path", { class: "ring-a", d: "M8 1.5a6.5 6.5 0 0 0 0 13" }), s("path", { class: "ring-b", d: "M8 1.5a6.5 6.5 0 0 1 0 13" })],
  only_a: () => [s("path", { d: "M2 8 9 2.5h5v11H9z" })],
  only_b: () => [s("path", { d: "M14 8 7 2.5H2v11h5z" })],
};

/** Return the sign of a status, with the form that its nodes have in the circuit. */
export function statusSign(status) {
  const { name, title } = STATUSES[status];
  return h("span", { class: `status-sign ${name}`, role: "img", "aria-label": title, title }, s("svg", { viewBox: "0 0 16 16", "aria-hidden": true }, ...SIGNS[name]()));
}

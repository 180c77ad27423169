// Two graphs side by side, as viewer/page/diff_payload.py wrote them. A unit is a node of one graph or of both.

import { printable } from "../data/visible.js";
import { promptOf } from "../ui/prompt.js";

/** Names of the graphs, by the number of their file. */
export const SIDES = ["A", "B"];

/** Where a unit or an edge is, in the order of graphs/diff/tables.py. */
export const STATUSES = [
  { name: "both", title: "in both" },
  { name: "changed", title: "in both, changed" },
  { name: "only_a", title: "only in A" },
  { name: "only_b", title: "only in B" },
];
export const CHANGED = 1;
export const ONLY_A = 2;
export const ONLY_B = 3;

/** The two graphs of a page, their units and what differs. */
export class Comparison {
  /** Take the part `diff` of the page, and the application. */
  constructor(entries, app) {
    this.app = app;
    this.files = app.files.slice(0, 2);
    Object.assign(this, { facts: entries, units: entries.units, edges: entries.edges, columns: entries.columns });
    this.size = entries.units.kind.length;
    this.kinds = entries.units.kind.map((kind) => entries.kinds[kind]);
    this.unitOf = entries.unit_of.map((units) => Int32Array.from(units));
    this.nodesOf = [entries.units.node_a, entries.units.node_b];
    this.influences = [entries.units.influence_a, entries.units.influence_b];
    this.columnOf = [0, 1].map((side) => columnsOf(entries.columns, side, this.files[side].graph.info.tokens.length));
  }

  /** Return what tells a graph from the other: its prompt, or the name of its file where both have the same prompt. */
  title(side) {
    const prompts = this.files.map(({ graph }) => promptOf(graph.info));
    return prompts[0] === prompts[1] ? printable(this.files[side].name) : printable(prompts[side]);
  }

  /** Return the name by which a circuit knows a unit. */
  key(unit) {
    return `unit:${unit}`;
  }

  /** Return the unit with such a name, or -1. */
  unitOfKey(key) {
    return key?.startsWith("unit:") ? Number(key.slice(5)) : -1;
  }

  /** Return the name of a unit's node in a file, or null. */
  nameIn(unit, side) {
    const node = this.nodesOf[side][unit];
    return node < 0 ? null : this.files[side].graph.nameOf(node);
  }

  /** Return the key of the unit of a file's node, by the node's name; null for none. */
  keyOfName(name, side) {
    const node = name === null ? -1 : this.files[side].graph.nodeOf(name);
    return node < 0 ? null : this.key(this.unitOf[side][node]);
  }

  /** Return the larger influence of a unit. */
  larger(unit) {
    return Math.max(this.influences[0][unit], this.influences[1][unit]);
  }

  /** Return influence in B minus influence in A. */
  change(unit) {
    return this.influences[1][unit] - this.influences[0][unit];
  }

  /** Return the entry of STATUSES of a unit. */
  status(unit) {
    return STATUSES[this.units.status[unit]];
  }

  /** Return whether a unit can be hidden by its status: tokens and targets always stay. */
  isInner(unit) {
    return this.kinds[unit] !== "token" && this.kinds[unit] !== "logit";
  }

  /** Return a mask of the units that the pruning of either graph keeps, whatever their status; null before both are pruned. */
  kept() {
    const { results } = this.app;
    if (!results[0] || !results[1]) return null;
    const mask = new Uint8Array(this.size);
    for (const side of [0, 1]) results[side].nodes.forEach((isKept, node) => isKept && (mask[this.unitOf[side][node]] = 1));
    return mask;
  }

  /** Return a mask of the units that are shown: kept ones with a status that the page shows. */
  shown() {
    const mask = this.kept();
    const { statuses } = this.app.store.page;
    return mask?.map((isKept, unit) => isKept && (!this.isInner(unit) || statuses.includes(this.status(unit).name)));
  }
}

function columnsOf(columns, side, count) {
  const found = new Int32Array(count);
  columns.forEach((positions, column) => {
    if (positions[side] !== null) found[positions[side]] = column;
  });
  return found;
}

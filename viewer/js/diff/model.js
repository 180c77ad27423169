// Models of circuits of two graphs: overlaid, or one side with the places of the other kept free.

import { emptyEdges, firstEdges } from "../circuit/model.js";
import { radiusOf } from "../circuit/sizes.js";
import { labelOf } from "../data/labels.js";
import { shortLabel } from "../data/short_label.js";
import { printable, visible } from "../data/visible.js";
import { percent } from "../ui/format.js";
import { ONLY_A, SIDES } from "./comparison.js";
import { edgeTone, nodeLook } from "./look.js";

const KINDS = { label: "feature", site: "feature" }; // of units of several nodes

/**
 * Return the model of both graphs on one set of axes; see circuit/model.js.
 *
 * `side` is null for both overlaid. For 0 or 1 units of the other graph are ghosts, and nodes and edges have the sizes
 * and signs of this one: both sides have the same layout.
 */
export function unionModel(comparison, side) {
  const shown = comparison.shown();
  const units = Array.from(shown.keys()).filter((unit) => shown[unit]);
  const largest = units.filter((unit) => comparison.isInner(unit)).reduce((most, unit) => Math.max(most, comparison.larger(unit)), 0) || 1;
  const nodes = units.map((unit) => modelNode(comparison, unit, side, largest));
  const edges = modelEdges(comparison, units, side);
  const columns = comparison.columns.map((positions) => ({ text: columnText(comparison, positions, side) }));
  return { nodes, edges, columns, total: { nodes: nodes.filter(({ ghost }) => !ghost).length, edges: edges.from.length } };
}

function modelNode(comparison, unit, side, largest) {
  const { layer, column } = comparison.units;
  const kind = KINDS[comparison.kinds[unit]] ?? comparison.kinds[unit];
  const size = Math.min(1, comparison.larger(unit) / largest);
  const common = { name: comparison.key(unit), node: unit, kind, layer: layer[unit], position: column[unit], size, ...texts(comparison, unit, kind, side) };
  const look = nodeLook(comparison, unit);
  if (side === null) return { ...common, ...look };
  const own = Math.min(1, comparison.influences[side][unit] / largest);
  return { ...common, ...look, ghost: comparison.nodesOf[side][unit] < 0, shrink: kind === "feature" || kind === "error" ? radiusOf(own) / radiusOf(size) : 1 };
}

/** Return label, detail and title of a unit. */
function texts(comparison, unit, kind, side) {
  const status = comparison.units.status[unit];
  const label = unitLabel(comparison, unit);
  const title = `${kind} ${comparison.units.name[unit]}${label ? `, ${label}` : ""}, ${comparison.status(unit).title}`;
  const mark = status >= ONLY_A && side === null ? `${SIDES[status - ONLY_A]}: ` : "";
  if (kind === "error") return { label: mark.slice(0, 1), detail: "", title };
  if (kind === "token") return { label: mark + ownText(comparison, unit, side), detail: "", title };
  if (kind === "logit") return { label: mark + ownText(comparison, unit, side), detail: probabilities(comparison, unit, side), title };
  if (kind === "group") return { label: printable(comparison.units.name[unit].replace(/^group /, "")), detail: comparison.status(unit).title, title };
  return { label: visible(shortLabel(label || plainName(comparison, unit))), isNamed: label !== "", detail: "", title };
}

/** Return the label of a unit: the user's, or that of the graph. */
export function unitLabel(comparison, unit) {
  for (const side of [0, 1]) {
    const node = comparison.nodesOf[side][unit];
    const found = node < 0 ? null : labelOf(comparison.files[side].graph, node, comparison.app.store.file(side).labels);
    if (found) return visible(found.text);
  }
  return "";
}

function plainName(comparison, unit) {
  const name = comparison.units.name[unit];
  return /#(\d+)/.exec(name)?.[1] ?? name;
}

/** Return the text of a token or target on a side, or of both where they differ. */
function ownText(comparison, unit, side) {
  const texts = (side === null ? [0, 1] : [side]).map((each) => [each, comparison.nodesOf[each][unit]]).filter(([, node]) => node >= 0);
  return [...new Set(texts.map(([each, node]) => visible(comparison.files[each].graph.targetAt(node)?.label || comparison.files[each].graph.texts("text")[node])))].join(" | ");
}

function probabilities(comparison, unit, side) {
  const parts = [0, 1].filter((each) => side === null || each === side).map((each) => {
    const probability = comparison.files[each].graph.targetAt(comparison.nodesOf[each][unit])?.probability;
    return probability == null ? "" : `${side === null ? `${SIDES[each]} ` : ""}${percent(probability)}`;
  });
  return parts.filter(Boolean).join("  ");
}

function columnText(comparison, positions, side) {
  const texts = positions.map((position, each) => (position === null ? null : visible(comparison.files[each].graph.info.tokens[position])));
  if (side !== null) return texts[side] ?? "";
  return [...new Set(texts.filter((text) => text !== null))].join(" | ");
}

/** Return the edges between shown units. */
function modelEdges(comparison, units, side) {
  const all = comparison.edges;
  const index = new Int32Array(comparison.size).fill(-1);
  units.forEach((unit, at) => (index[unit] = at));
  const edges = { ...emptyEdges(all.source.length), ...(side === null ? { tone: new Uint8Array(all.source.length) } : { hidden: new Uint8Array(all.source.length) }) };
  const [influences, weights] = [[all.influence_a, all.influence_b], [all.weight_a, all.weight_b]];
  const largest = [0, 1].reduce((most, each) => influences[each].reduce((a, b) => Math.max(a, b), most), 0) || 1;
  let count = 0;
  all.source.forEach((source, edge) => {
    const [from, to] = [index[source], index[all.target[edge]]];
    if (from < 0 || to < 0) return;
    const stronger = side ?? Number(influences[1][edge] > influences[0][edge]);
    edges.from[count] = from;
    edges.to[count] = to;
    edges.weight[count] = weights[stronger][edge];
    edges.share[count] = Math.sqrt(influences[stronger][edge] / largest);
    edges.mass[count] = Math.max(influences[0][edge], influences[1][edge]);
    if (side === null) edges.tone[count] = edgeTone(all.status[edge], influences[0][edge], influences[1][edge]);
    else edges.hidden[count] = Number(weights[side][edge] === 0);
    count++;
  });
  return firstEdges(edges, count);
}

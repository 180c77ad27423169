// Places of a circuit: layers from bottom to top, positions from left to right. Pure: knows nothing about canvases.
// Lengths are pixels at scale 1; y grows downwards.

import { cellsOf } from "./cells.js";
import { columnsOf } from "./columns.js";
import { framed } from "./frames.js";
import { dealt, packed } from "./pack.js";
import { LEAST_TARGET, shapeOf } from "./sizes.js";
import { growth, LAYERS, MARGIN } from "./view.js";

const LABELLED = [60, 36, 18, 0]; // nodes that get space for their labels, the largest first: as many as fit
const GOOD_FIT = 0.9; // scale at which labels are easy to read
const SPARE = 12; // width of a column that only has a token, in prompts of more than FEW tokens
const FEW = 40;
const PADDING = 8; // between the ends of a column and its nodes
const COLUMN_GAP = 6;
const AXIS = 44; // left of the columns, for the names of layers
const [HEAD, FOOT] = [24, 36]; // from the upper end to the first targets, and from the lowest layer to the lower end
const TARGET = 20; // half the height of a target
const LINE_GAP = 10; // between lines of targets
const [PER_LINE, MOST_LINES] = [4, 3]; // targets of a position beside each other, where they need not more lines
const [ABOVE, BELOW, STRIP_ROOM] = [4, 20, 26]; // pixels that stay free at any scale: over and under targets, and for the texts of tokens
const MOST_STRETCH = 420; // pixels that a column may grow beyond what it needs
const MOST_SPREAD = 2.2; // space of a node, where there is some, in units of what it needs
const MOST_ENDS = 0.72; // share of the height that may go to targets and tokens; in lower views targets shrink until they fit
const SHRINK = 0.05; // step
const SWEEPS = 3; // to straighten edges
const TURNS = 6; // until the scale of a plan settles

/**
 * Return the layout of a model: {items, host, x, y, w, h, room, least, startX, startY, columns, rows, bounds}.
 *
 * `items` and `host` are those of `cellsOf`; x and y are centres, startX and startY those before items were moved,
 * w and h half the width and height of each item, `room` half of the width that a box may have, `least` as in view.js; columns are
 * {first, last, text, left, right}, rows {layer, top, bottom} from bottom to top; bounds {left, top, right, bottom}.
 *
 * Args: model; options {width, height} of the view, `collapsed` spans, Sets `opened` and `kept` of `cellsOf`, `moved` offsets by name
 * and `measure`, which returns the width of a text.
 */
export function layoutOf(model, { width, height, collapsed, opened, kept, moved, measure }) {
  const sites = columnsOf(model.columns, collapsed);
  const cells = cellsOf(model, sites, { opened, kept });
  const layout = placed(bestPlan(cells, sites.columns, width, height, measure), model, width, height);
  [layout.startX, layout.startY] = [layout.x.slice(), layout.y.slice()];
  layout.items.forEach((item, at) => {
    const [dx, dy] = moved[item.name] ?? moved[item.inside === undefined ? "" : layout.items[item.inside].name] ?? [0, 0];
    layout.x[at] += dx;
    layout.y[at] += dy;
  });
  return layout;
}

/** Return the shapes of all items, with space for the labels of the largest `count` features. */
function shapesOf({ items, host }, count, measure) {
  const circles = [...items.keys()].filter((at) => host[at] === at && items[at].kind === "feature" && items[at].label);
  const labelled = new Set(circles.sort((a, b) => items[b].size - items[a].size).slice(0, count));
  const shapes = items.map((item, at) => shapeOf(item, labelled.has(at), measure));
  return framed(items, shapes);
}

/** Return the plan with most labels that fits the view well, or fits best: plans differ in the number of nodes on a line of a cell. */
function bestPlan(cells, columns, width, height, measure) {
  const largest = Math.max(1, ...cellsOfRows(cells).map((cell) => cell.length));
  const counts = new Set(Array.from({ length: largest }, (_, lines) => Math.ceil(largest / (lines + 1))));
  const fit = (plan) => scaleOf(plan, width, height);
  let [best, least] = [null, null];
  for (const labelled of LABELLED) {
    const shapes = shapesOf(cells, labelled, measure);
    least ??= leastTarget(cells, shapes, width, height);
    const sums = new Map(cellsOfRows(cells).map((cell) => [cell, { width: largestSums(cell, shapes, "width"), height: largestSums(cell, shapes, "height") }]));
    for (const perLine of counts) {
      const plan = { ...planOf(cells, shapes, sums, columns, perLine), least };
      if (!best || fit(plan) > fit(best) + 1e-9) best = plan;
    }
    if (fit(best) >= GOOD_FIT) break;
  }
  return best;
}

function cellsOfRows(cells) {
  return [...cells.rows.values()].flatMap((row) => [...row.values()]);
}

/** Return the sums of the largest 0, 1, 2, … widths or heights of the items of a cell. */
function largestSums(cell, shapes, name) {
  const sums = [0];
  for (const size of cell.map((item) => shapes[item][name]).sort((a, b) => b - a)) sums.push(sums.at(-1) + size);
  return sums;
}

function planOf(cells, shapes, sums, columns, perLine) {
  const lines = new Map(); // cell → number of lines
  const widths = columns.map((_, column) => leastWidth(cells, shapes, column));
  const heights = new Map(); // layer → height
  for (const [layer, row] of [...cells.rows].sort((a, b) => a[0] - b[0])) {
    for (const [column, cell] of row) {
      const count = Math.ceil(cell.length / perLine);
      lines.set(cell, count);
      widths[column] = Math.max(widths[column], sums.get(cell).width[Math.ceil(cell.length / count)] + 2 * PADDING);
      heights.set(layer, Math.max(heights.get(layer) ?? 0, sums.get(cell).height[count]));
    }
  }
  const inner = sumOf(widths, (each) => each) + COLUMN_GAP * (widths.length - 1);
  const inside = sumOf([...heights.values()], (each) => each);
  return { cells, shapes, columns, lines, widths, heights, inside, inner, targetsWidth: sumOf(cells.targets, (at) => shapes[at].width) };
}

/** Return the pixels of a side that are free; a view without a size has one. */
function roomIn(side, taken) {
  return Math.max(1, side - taken);
}

/** Return the scale at which a plan fits the view. What is at its ends shrinks less than the rest: it follows from the scale, and that from it. */
function scaleOf(plan, width, height) {
  const across = Math.min(1, roomIn(width, LAYERS + MARGIN) / plan.inner);
  let scale = across;
  for (let turn = 0; turn < TURNS; turn++) {
    const { top, bottom } = endsOf(plan, width, scale);
    scale = Math.min(across, roomIn(height, 2 * MARGIN) / (top + plan.inside + bottom));
  }
  return scale;
}

/**
 * Return the ends of a plan at a scale: {grown, lines, first, pitch, top, bottom}. Targets are `grown` times as large as the rest, in
 * `lines`, the first one `first` from the upper end and the others `pitch` apart; layers begin at `top` and leave `bottom` free.
 */
function endsOf({ cells, inner, targetsWidth, least }, width, scale) {
  const size = Math.max(growth(scale), least);
  const half = (TARGET * size) / scale;
  const lines = Math.max(wantedLines(cells), Math.ceil((targetsWidth * size) / scale / Math.max(roomIn(width, LAYERS + MARGIN) / scale, inner)));
  const [first, pitch] = [Math.max(HEAD, half + ABOVE / scale), 2 * half + LINE_GAP];
  const top = first + (lines - 1) * pitch + half + BELOW / scale;
  return { grown: size / scale, lines, first, pitch, top, bottom: Math.max(FOOT, STRIP_ROOM / scale) };
}

/** Return how many lines the targets have where they are not wider than the view. */
function wantedLines(cells) {
  const most = Math.max(0, ...byPosition(cells).map((group) => group.length));
  return Math.max(1, Math.min(MOST_LINES, Math.ceil(most / PER_LINE)));
}

/** Return how little targets shrink: as LEAST_TARGET says, or so that layers have room between them and the tokens in a view that is low. */
function leastTarget(cells, shapes, width, height) {
  const across = sumOf(cells.targets, (at) => shapes[at].width) / roomIn(width, LAYERS + MARGIN);
  const taken = (size) => Math.max(wantedLines(cells), Math.ceil(across * size)) * 2 * TARGET * size + ABOVE + BELOW + STRIP_ROOM;
  let size = LEAST_TARGET;
  while (size > 0 && taken(size) > MOST_ENDS * roomIn(height, 2 * MARGIN)) size = Math.max(0, size - SHRINK);
  return size;
}

/** Return the width of a column without nodes: of its token where there are nodes, or else of a part of it. */
function leastWidth(cells, shapes, column) {
  const token = cells.tokens.get(column)?.[0];
  const isUsed = cells.tokens.size <= FEW || [...cells.rows.values()].some((row) => row.has(column));
  return isUsed && token !== undefined ? shapes[token].width : SPARE;
}

/** Return the layout of a plan, with spare width and height shared out. */
function placed(plan, model, width, height) {
  const { cells, shapes } = plan;
  const scale = scaleOf(plan, width, height);
  const ends = endsOf(plan, width, scale);
  const count = cells.items.length;
  const layout = {
    items: cells.items, host: cells.host, x: new Float32Array(count), y: new Float32Array(count),
    room: new Float32Array(count).fill(Infinity), w: Float32Array.from(shapes, (shape, at) => shape.w * (cells.items[at].shrink ?? 1)),
    h: Float32Array.from(shapes, (shape, at) => shape.h * (cells.items[at].shrink ?? 1)),
    least: Float32Array.from(shapes, (shape) => Math.min(shape.least ?? 0, plan.least)), columns: placedColumns(plan, roomIn(width, LAYERS + MARGIN) / scale), rows: [],
  };
  placeTargets(layout, plan, ends);
  const spare = roomIn(height, 2 * MARGIN) / scale - (ends.top + plan.inside + ends.bottom);
  const bottom = placeRows(layout, plan, ends.top, Math.max(0, spare));
  for (const [column, [token]] of cells.tokens) {
    const { left, right } = layout.columns[column];
    layout.x[token] = (left + right) / 2;
    layout.y[token] = bottom + 18;
    layout.room[token] = (right - left) / 2;
  }
  straighten(layout, plan, model);
  placeMembers(layout, shapes);
  layout.bounds = { left: AXIS, top: 0, right: Math.max(layout.columns.at(-1).right, layout.right ?? 0), bottom: bottom + ends.bottom };
  return layout;
}

function placedColumns({ columns, widths, cells }, available) {
  const counts = widths.map((_, column) => Math.max(0.3, ...[...cells.rows.values()].map((row) => row.get(column)?.length ?? 0)));
  const spare = Math.max(0, available - sumOf(widths, (each) => each) - COLUMN_GAP * (widths.length - 1));
  const weights = widths.map((each, column) => (each > SPARE ? each * Math.sqrt(counts[column]) : 1));
  const total = sumOf(weights, (each) => each);
  let left = AXIS;
  return columns.map((column, at) => {
    const right = left + widths[at] + Math.min(MOST_STRETCH, (spare * weights[at]) / total);
    const result = { ...column, left, right };
    left = right + COLUMN_GAP;
    return result;
  });
}

/** Return the targets of each position, from left to right. */
function byPosition({ targets, items }) {
  const groups = new Map();
  for (const at of targets) groups.set(items[at].position, [...(groups.get(items[at].position) ?? []), at]);
  return [...groups].sort((a, b) => a[0] - b[0]).map(([, group]) => group);
}

/** Return the part of a list in a line of `count`. */
function shareOf(list, line, count) {
  const perLine = Math.ceil(list.length / count);
  return list.slice(line * perLine, (line + 1) * perLine);
}

/** Place the targets in lines above the layers, near their columns. */
function placeTargets(layout, { cells, shapes }, { grown, lines, first, pitch }) {
  const groups = byPosition(cells);
  const right = layout.columns.at(-1).right;
  for (let line = 0; line < lines; line++) {
    const targets = groups.flatMap((group) => shareOf(group, lines - 1 - line, lines)); // the first ones are lowest
    const widths = targets.map((at) => shapes[at].width * grown);
    const total = sumOf(widths, (each) => each);
    const wanted = targets.map((at, number) => centreOf(layout.columns, layout.items[at].position) - widths[number] / 2);
    const lefts = packed(wanted, widths, AXIS, Math.max(right, AXIS + total));
    targets.forEach((at, number) => {
      layout.x[at] = lefts[number] + widths[number] / 2;
      layout.room[at] = widths[number] / 2 - 3;
      layout.y[at] = first + line * pitch;
      layout.right = Math.max(layout.right ?? 0, lefts[number] + widths[number]);
    });
  }
}

function centreOf(columns, position) {
  const column = columns.find((each) => each.first <= position && position <= each.last);
  return (column.left + column.right) / 2;
}

/** Place the layers, with spare height shared out; return the lower end of the lowest. */
function placeRows(layout, { heights, inside }, top, spare) {
  const end = top + spare + inside;
  let bottom = end;
  for (const [layer, height] of heights) {
    const upper = bottom - height * (1 + spare / inside);
    layout.rows.push({ layer, bottom, top: upper });
    bottom = upper;
  }
  return end;
}

/** Order the nodes of each cell, and place each near the nodes that it has edges with. */
function straighten(layout, plan, model) {
  const { cells, shapes } = plan;
  for (const row of cells.rows.values()) {
    for (const [column, cell] of row) for (const item of cell) layout.x[item] = (layout.columns[column].left + layout.columns[column].right) / 2;
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const wanted = neighbourMeans(layout, model.edges);
    for (const { layer, bottom, top } of layout.rows) {
      for (const [column, cell] of cells.rows.get(layer)) {
        const order = [...cell].sort((a, b) => wanted[a] - wanted[b] || a - b);
        const lines = dealt(order, plan.lines.get(cell));
        placeHeights(layout, shapes, lines, bottom, bottom - top);
        for (const line of lines) placeLine(layout, shapes, line, wanted, layout.columns[column]);
      }
    }
  }
}

/** Place lines above each other, each in its share of a height. */
function placeHeights(layout, shapes, lines, bottom, height) {
  const heights = lines.map((line) => Math.max(...line.map((item) => shapes[item].height)));
  const spare = (height - sumOf(heights, (each) => each)) / lines.length;
  let lower = bottom;
  lines.forEach((line, at) => {
    for (const item of line) layout.y[item] = lower - (heights[at] + spare) / 2;
    lower -= heights[at] + spare;
  });
}

/** Place the nodes of a line in their order, each near its wanted place, with more space between them where there is some. */
function placeLine(layout, shapes, line, wanted, { left, right }) {
  const needed = sumOf(line, (item) => shapes[item].width);
  const stretch = Math.max(1, Math.min(MOST_SPREAD, (right - left - 2 * PADDING) / needed));
  const widths = line.map((item) => shapes[item].width * stretch);
  const shift = (item) => shapes[item].lead + (shapes[item].width * (stretch - 1)) / 2;
  const lefts = packed(line.map((item) => wanted[item] - shift(item)), widths, left + PADDING, right - PADDING);
  line.forEach((item, number) => (layout.x[item] = lefts[number] + shift(item)));
}

/** Return the mean x of each item's neighbours, weighted by the influence that passes, or its own without any. */
function neighbourMeans(layout, { from, to, mass }) {
  const [sums, weights] = [new Float64Array(layout.x.length), new Float64Array(layout.x.length)];
  const root = (at) => layout.items[at].inside ?? layout.host[at];
  for (let edge = 0; edge < from.length; edge++) {
    const [a, b] = [root(from[edge]), root(to[edge])];
    const weight = mass[edge] + 1e-12;
    sums[a] += weight * layout.x[b];
    sums[b] += weight * layout.x[a];
    weights[a] += weight;
    weights[b] += weight;
  }
  return layout.x.map((x, at) => (weights[at] ? sums[at] / weights[at] : x));
}

/** Place the members of open groups inside their frames. */
function placeMembers(layout, shapes) {
  layout.items.forEach(({ inside }, at) => {
    if (inside === undefined) return;
    layout.x[at] = layout.x[inside] + shapes[at].dx;
    layout.y[at] = layout.y[inside] + shapes[at].dy;
  });
}

function sumOf(list, value) {
  return list.reduce((sum, each) => sum + value(each), 0);
}

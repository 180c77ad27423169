// The display list of a circuit: shapes and curves with names of colours, which canvas and SVG draw alike. Pure.

/** Colours of edges, by the numbers in `edges.tone`. */
export const TONES = ["positive", "negative", "side-both", "side-a", "side-b"];

const ALPHAS = [0.12, 0.85]; // opacity of an edge that carries no influence, and of the one that carries most
const FEW_EDGES = 200; // with more edges, weak ones are paler
const WIDTHS = [0.6, 4.5]; // of an edge without weight, and of one that is all of its target's input
const LEVELS = 16; // of opacity, and of width

const LOOKS = {
  feature: { form: "circle", fill: "feature", stroke: "feature-line", line: 1.25 },
  error: { form: "diamond", fill: "error", stroke: "error-line", line: 1.25 },
  token: { form: "box", fill: "token", stroke: "token-line", line: 1 },
  span: { form: "card", fill: "token", stroke: "token-line", line: 1 },
  logit: { form: "box", fill: "target", stroke: "target-line", line: 1.25 },
  group: { form: "card", fill: "group", stroke: "group-line", line: 1.25 },
  more: { form: "pill", fill: "ground", stroke: "rule-strong", line: 1 },
};

/**
 * Return the display list of a layout: {shapes, edges, columns, rows, bands, bounds}.
 *
 * A shape is {at, form, x, y, w, h, room, least, fill, stroke, line, ring, text, detail, label, rank, bar}: `text` stands inside, `label` beside;
 * `bar` is a share that a bar at its foot shows. Shapes are in the order of painting. Edges are typed arrays {edge, from,
 * to, key}: numbers of the model's edges and of items, weak edges first; `edgeLook` says how edges of a key look.
 */
export function sceneOf(model, layout, bands = []) {
  const shapes = [];
  layout.items.forEach((item, at) => {
    if (layout.host[at] === at && !item.ghost) shapes.push(shape(item, at, layout));
  });
  shapes.sort((a, b) => (b.form === "frame") - (a.form === "frame") || a.rank - b.rank);
  return {
    shapes, edges: sceneEdges(model.edges, layout), columns: layout.columns, rows: layout.rows, bounds: layout.bounds,
    x: layout.x, y: layout.y, h: layout.h, least: layout.least, bands: bands.map((band) => sceneBand(band, layout.columns)).filter(Boolean),
  };
}

function shape(item, at, layout) {
  const look = LOOKS[item.kind];
  const isCircle = item.kind === "feature" || item.kind === "error";
  return {
    at, x: layout.x[at], y: layout.y[at], w: layout.w[at], h: layout.h[at], room: layout.room[at], least: layout.least[at],
    ...look, form: item.form ?? (item.isOpen ? "frame" : look.form),
    fill: item.fill ?? look.fill, ring: item.ring ?? null,
    text: isCircle ? "" : item.label, detail: isCircle ? "" : item.detail, label: isCircle ? item.label : "",
    isNamed: item.isNamed ?? false, rank: isCircle ? item.size : 1 + item.size, bar: barOf(item), kind: item.kind,
  };
}

function barOf(item) {
  return item.kind === "logit" ? (item.probability ?? 0) : item.kind === "token" || item.kind === "span" ? item.size : 0;
}

function sceneBand(band, columns) {
  const inside = columns.filter((column) => column.last >= band.first && column.first <= band.last);
  return inside.length ? { ...band, left: inside[0].left, right: inside.at(-1).right } : null;
}

/** Return the edges between shown items, in the order of painting. */
function sceneEdges(edges, { host, items }) {
  const isShown = (edge) => !edges.hidden?.[edge] && !items[edges.from[edge]].ghost && !items[edges.to[edge]].ghost;
  const shown = edges.from.map((_, edge) => edge).filter((edge) => host[edges.from[edge]] !== host[edges.to[edge]] && isShown(edge));
  const largest = shown.reduce((most, edge) => Math.max(most, edges.mass[edge]), 0) || 1;
  const keys = new Int32Array(edges.from.length);
  for (const edge of shown) keys[edge] = keyOf(edges, edge, largest);
  shown.sort((a, b) => keys[a] - keys[b] || a - b);
  return {
    edge: shown,
    from: shown.map((edge) => host[edges.from[edge]]),
    to: shown.map((edge) => host[edges.to[edge]]),
    key: shown.map((edge) => keys[edge]),
    floor: ALPHAS[0] * Math.min(1, Math.sqrt(FEW_EDGES / shown.length)),
  };
}

function keyOf(edges, edge, largest) {
  const alpha = Math.round((LEVELS - 1) * Math.sqrt(edges.mass[edge] / largest));
  const width = Math.round((LEVELS - 1) * Math.min(1, edges.share[edge]));
  const isNegative = edges.weight[edge] < 0;
  const tone = edges.tone ? edges.tone[edge] : Number(isNegative);
  return (alpha * LEVELS + width) * 16 + tone * 2 + Number(isNegative);
}

/** Return how strong the edges of a key are among all, from 0 to 1. */
export function strengthOf(key) {
  return Math.floor(key / (16 * LEVELS)) / (LEVELS - 1);
}

/** Return {alpha, width, tone, dashed} of the edges of a key; `floor` is the opacity of the weakest, `gain` multiplies strength. */
export function edgeLook(key, { floor, gain = 1 }) {
  return {
    alpha: floor + (ALPHAS[1] - floor) * Math.min(1, gain * strengthOf(key)),
    width: WIDTHS[0] + ((WIDTHS[1] - WIDTHS[0]) * (Math.floor(key / 16) % LEVELS)) / (LEVELS - 1),
    tone: TONES[(key % 16) >> 1],
    dashed: key % 2 === 1,
  };
}

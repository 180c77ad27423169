// What surrounds a circuit: columns and layers behind it, their names over it, where they can always be seen.

import { fitted } from "./texts.js";
import { LAYERS, projection } from "./view.js";

/** Size of the names of layers and columns, and opacity of what lies behind those of layers. */
export const AXIS_FONT = 11;
export const VEIL = 0.8;

/** Height of the texts of columns at the lower edge. */
export const STRIP = 22;

const GAP = 6;
const LONGEST = 60; // text of a narrow column
const READABLE = 0.6; // scale below which texts of tokens cannot be read in their boxes

/** Paint bands of columns, bands of segments with their names, and lines of layers. */
export function paintBack(context, scene, picture, style) {
  const { px, py } = projection(picture.view, picture);
  const [top, bottom] = [py(scene.rows.at(-1)?.top ?? 0), py(scene.rows[0]?.bottom ?? 0)];
  context.fillStyle = style.band;
  for (const { left, right } of scene.columns) {
    if (px(right) < 0 || px(left) > picture.width) continue;
    roundBox(context, px(left), top, px(right) - px(left), bottom - top, 6);
  }
  scene.bands.forEach((band) => {
    context.fillStyle = style[`band-${band.tone}`] ?? style["band-text"];
    roundBox(context, px(band.left), top - 18, px(band.right) - px(band.left), bottom - top + 18, 6);
  });
  context.fillStyle = style.rule;
  const [left, right] = [px(scene.columns[0].left), px(scene.columns.at(-1).right)];
  for (const row of scene.rows) context.fillRect(left, Math.round(py(row.bottom)), right - left, 1);
  paintBandNames(context, scene, style, { px, py });
}

function roundBox(context, x, y, width, height, radius) {
  context.beginPath();
  context.roundRect(x, y, Math.max(1, width), Math.max(1, height), Math.min(radius, Math.max(0, width / 2)));
  context.fill();
}

/** Return the names of layers that have room, at the left edge of a picture: [{text, x, y}]. */
export function layerNames(scene, picture) {
  const { px, py } = projection(picture.view, picture);
  const x = Math.max(6, px(scene.columns[0].left) - 38);
  const names = [];
  for (const row of scene.rows) {
    const y = (py(row.bottom) + py(row.top)) / 2;
    const last = names.at(-1)?.y ?? Infinity;
    if (last - y >= AXIS_FONT + 1 && y >= 0 && y <= picture.height) names.push({ text: `L${row.layer}`, x, y });
  }
  return names;
}

/** Return whether names of layers lie over the circuit. */
export function hidesLayers(scene, picture) {
  return projection(picture.view, picture).px(scene.columns[0].left) < LAYERS;
}

/** Paint the names of layers at the left edge of a picture; `picture` may be as narrow as LAYERS. */
export function paintLayers(context, scene, picture, style) {
  if (hidesLayers(scene, picture)) {
    context.globalAlpha = VEIL;
    context.fillStyle = style.paper;
    context.fillRect(0, 0, LAYERS, picture.height);
    context.globalAlpha = 1;
  }
  prepare(context, style, "left");
  for (const { text, x, y } of layerNames(scene, picture)) haloText(context, text, x, y, style);
}

/** Return the height at which the texts of columns are to be painted, or null where tokens can be read in the circuit. */
export function stripTop(scene, picture) {
  const { py, scale } = projection(picture.view, picture);
  const tokens = py(scene.rows[0]?.bottom ?? scene.bounds.bottom);
  return tokens > picture.height - STRIP || scale < READABLE ? Math.min(tokens, picture.height - STRIP) : null;
}

/** Paint the texts of columns on a strip of the picture's width. */
export function paintStrip(context, scene, picture, style) {
  const { px } = projection(picture.view, picture);
  context.fillStyle = style.paper;
  context.fillRect(0, 0, picture.width, STRIP);
  prepare(context, style, "center");
  context.fillStyle = style.ink;
  for (const { text, x } of stripTexts(scene.columns, px, picture.width, (text) => context.measureText(text).width)) context.fillText(text, x, STRIP / 2);
}

/** Return the texts of columns that have room beside each other, [{text, x}]: those of wide columns first. */
function stripTexts(columns, px, width, measure) {
  const placed = [];
  for (const column of [...columns].sort((a, b) => b.right - b.left - (a.right - a.left))) {
    const [left, right] = [Math.max(0, px(column.left)), Math.min(width, px(column.right))];
    if (right <= left) continue;
    const text = fitted(column.text, Math.max(LONGEST, right - left - GAP), measure);
    const half = measure(text) / 2 + GAP / 2;
    const x = Math.max(half, Math.min(width - half, (left + right) / 2)); // whole at the edges
    if (text && placed.every((other) => Math.abs(other.x - x) > other.half + half)) placed.push({ text, x, half });
  }
  return placed;
}

function paintBandNames(context, scene, style, { px, py }) {
  const y = py(scene.rows.at(-1)?.top ?? 0) - 9;
  prepare(context, style, "left"); // targets stand above the ends of bands
  for (const band of scene.bands) {
    const name = fitted(band.name, px(band.right) - px(band.left) - 2 * GAP, (text) => context.measureText(text).width);
    if (name) haloText(context, name, px(band.left) + GAP, y, style);
  }
}

function prepare(context, style, align) {
  context.font = `${AXIS_FONT}px ${style.font}`;
  context.textBaseline = "middle";
  context.textAlign = align;
}

function haloText(context, text, x, y, style) {
  context.strokeStyle = style.paper;
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeText(text, x, y);
  context.fillStyle = style["ink-faint"];
  context.fillText(text, x, y);
}

// What surrounds a circuit: columns and layers behind it, their names over it, where they can always be seen.

import { fitted } from "./texts.js";
import { projection } from "./view.js";

const FONT = 11;
const STRIP = 22; // height of the tokens at the edge
const READABLE = 0.6; // scale below which texts of tokens cannot be read in their boxes

/** Paint bands of columns, bands of segments and lines of layers. */
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
}

function roundBox(context, x, y, width, height, radius) {
  context.beginPath();
  context.roundRect(x, y, Math.max(1, width), Math.max(1, height), Math.min(radius, Math.max(0, width / 2)));
  context.fill();
}

/** Paint the names of layers, segments and, where the tokens are out of sight, of columns at the edges of the picture. */
export function paintFront(context, scene, picture, style) {
  const { px, py, scale } = projection(picture.view, picture);
  const place = { px, py };
  context.font = `${FONT}px ${style.font}`;
  context.textBaseline = "middle";
  paintLayers(context, scene, picture, style, place);
  paintBandNames(context, scene, style, place);
  const tokens = py(scene.rows[0]?.bottom ?? scene.bounds.bottom);
  if (tokens > picture.height - STRIP || scale < READABLE) paintStrip(context, scene, style, place, { ...picture, top: Math.min(tokens + 4, picture.height - STRIP) });
}

function paintLayers(context, scene, picture, style, { px, py }) {
  const x = Math.max(6, px(scene.columns[0].left) - 38);
  let last = Infinity;
  context.textAlign = "left";
  for (const row of scene.rows) {
    const y = (py(row.bottom) + py(row.top)) / 2;
    if (last - y < FONT + 1 || y < 0 || y > picture.height) continue;
    last = y;
    haloText(context, `L${row.layer}`, x, y, style);
  }
}

function paintBandNames(context, scene, style, { px, py }) {
  const y = py(scene.rows.at(-1)?.top ?? 0) - 9;
  context.textAlign = "center";
  for (const band of scene.bands) {
    const [left, right] = [px(band.left), px(band.right)];
    const name = fitted(band.name, right - left - 4, (text) => context.measureText(text).width);
    if (name) haloText(context, name, (left + right) / 2, y, style);
  }
}

function paintStrip(context, scene, style, { px }, { width, top }) {
  context.globalAlpha = 0.92;
  context.fillStyle = style.paper;
  context.fillRect(0, top, width, STRIP);
  context.globalAlpha = 1;
  context.fillStyle = style.rule;
  context.fillRect(0, top, width, 1);
  context.fillStyle = style.ink;
  context.textAlign = "center";
  const measure = (text) => context.measureText(text).width;
  for (const column of scene.columns) {
    const [left, right] = [Math.max(0, px(column.left)), Math.min(width, px(column.right))];
    if (right - left > 12) context.fillText(fitted(column.text, right - left - 4, measure), (left + right) / 2, top + STRIP / 2 + 1);
  }
}

function haloText(context, text, x, y, style) {
  context.strokeStyle = style.paper;
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeText(text, x, y);
  context.fillStyle = style["ink-faint"];
  context.fillText(text, x, y);
}

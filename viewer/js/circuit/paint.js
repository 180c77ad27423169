// Painting of display lists on a 2D context.

import { edgeLook } from "./scene.js";
import { fitted, linesIn } from "./texts.js";
import { extent, projection } from "./view.js";

const CURVES = 40; // in one path; longer paths are slow to fill
const BEND = 0.45; // distance of control points from the ends, as a share of the height
const LEAST_RADIUS = 1.8;

/** Paint a range of a scene's edges; a picture has {view, width, height}, `numbers` picks edges from the scene's list. */
export function paintEdges(context, scene, picture, style, { from = 0, to = scene.edges.key.length, numbers = null } = {}) {
  const { edges } = scene;
  const place = projection(picture.view, picture);
  let [current, count] = [-1, 0];
  context.lineCap = "butt";
  for (let at = from; at < to; at++) {
    const edge = numbers ? numbers[at] : at;
    const curve = edgeCurve(scene, edge, place);
    if (isOutside(curve, picture)) continue;
    if (edges.key[edge] !== current || count === CURVES) {
      if (count) context.stroke();
      if (edges.key[edge] !== current) setLook(context, edgeLook(edges.key[edge], edges), style, place.grow);
      current = edges.key[edge];
      count = 0;
      context.beginPath();
    }
    context.moveTo(curve[0], curve[1]);
    context.bezierCurveTo(curve[0], curve[2], curve[4], curve[3], curve[4], curve[5]);
    count++;
  }
  if (count) context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/** Return a curve upwards: [x of the source, its y, y of its control point, y of the target's, x of the target, its y]. */
export function edgeCurve({ edges, x, y, h, least }, edge, { px, py, grow }) {
  const [from, to] = [edges.from[edge], edges.to[edge]];
  const [start, end] = [py(y[from]) - h[from] * grow, py(y[to]) + h[to] * Math.max(grow, least[to])];
  const bend = Math.max(BEND * Math.abs(start - end), 10 * grow);
  return [px(x[from]), start, start - bend, end + bend, px(x[to]), end];
}

function isOutside([x1, y1, , , x2, y2], { width, height }) {
  return (x1 < 0 && x2 < 0) || (x1 > width && x2 > width) || (y1 < 0 && y2 < 0) || (y1 > height && y2 > height);
}

function setLook(context, look, style, grow) {
  context.globalAlpha = look.alpha;
  context.strokeStyle = style[look.tone];
  context.lineWidth = look.width * Math.max(0.6, Math.min(1.4, grow));
  context.setLineDash(look.dashed ? [5, 4] : []);
}

/** Paint some shapes of a scene with their texts, without labels. */
export function paintShapes(context, shapes, picture, style) {
  const place = projection(picture.view, picture);
  for (const shape of shapes) {
    const [x, y] = [place.px(shape.x), place.py(shape.y)];
    const [w, h] = extent(shape, place);
    if (x + w < 0 || y + h < 0 || x - w > picture.width || y - h > picture.height) continue;
    paintShape(context, shape, { x, y, w, h, grow: Math.max(place.grow, shape.least) }, style);
  }
}

function paintShape(context, shape, { x, y, w, h, grow }, style) {
  if (shape.form === "card" && h > 5) { // a second card behind
    outline(context, shape, x + 2.5 * grow, y - 2.5 * grow, w, h);
    paintOutline(context, shape, style);
  }
  outline(context, shape, x, y, w, h);
  paintOutline(context, shape, style);
  if (shape.ring) {
    context.strokeStyle = style[shape.ring];
    context.lineWidth = 2.5;
    outline(context, shape, x, y, w + 2, h + 2);
    context.stroke();
  }
  if (shape.bar) paintBar(context, shape, { x, y, w, h, grow }, style);
  if (shape.text) paintText(context, shape, { x, y, w, h, grow }, style);
}

function paintOutline(context, shape, style) {
  context.fillStyle = style[shape.fill];
  context.strokeStyle = style[shape.stroke];
  context.lineWidth = shape.line;
  context.fill();
  context.stroke();
}

/** Begin the path of a form. */
export function outline(context, { form }, x, y, w, h) {
  context.beginPath();
  if (form === "circle") context.arc(x, y, Math.max(LEAST_RADIUS, w), 0, 2 * Math.PI);
  else if (form === "diamond") polygon(context, [[x, y - h], [x + w, y], [x, y + h], [x - w, y]]);
  else if (form === "left") polygon(context, [[x + w, y - h], [x - w, y], [x + w, y + h]]);
  else if (form === "right") polygon(context, [[x - w, y - h], [x + w, y], [x - w, y + h]]);
  else context.roundRect(x - w, y - h, 2 * w, 2 * h, form === "box" ? Math.min(7, h) : form === "pill" ? h : Math.min(5, h));
}

function polygon(context, points) {
  points.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
}

/** Return the name of the colour of the bar at the foot of a shape. */
export function barColour({ stroke }) {
  return stroke === "token-line" ? "ink-faint" : stroke;
}

function paintBar(context, shape, { x, y, w, h, grow }, style) {
  const inset = Math.min(6 * grow, w / 3);
  context.fillStyle = style[barColour(shape)];
  context.fillRect(x - w + inset, y + h - 3.5 * grow, 2 * (w - inset) * Math.min(1, shape.bar), 2 * grow);
}

function paintText(context, shape, { x, y, w, h, grow }, style) {
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { text, dy, size, colour, isBold } of linesIn(shape, h, grow)) {
    context.font = `${isBold ? "600 " : ""}${size}px ${style.font}`;
    context.fillStyle = style[colour];
    context.fillText(fitted(text, 2 * w - 6, (part) => context.measureText(part).width), x, y + dy);
  }
}

/** Paint labels, as `placedLabels` returns them. */
export function paintLabels(context, labels, style) {
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const { text, x, y, size, align, isNamed } of labels) {
    context.font = `${size}px ${style.font}`;
    context.textAlign = align;
    context.globalAlpha = 0.82;
    context.strokeStyle = style.paper;
    context.lineWidth = 3;
    context.strokeText(text, x, y);
    context.globalAlpha = 1;
    context.fillStyle = isNamed ? style.ink : style["ink-soft"];
    context.fillText(text, x, y);
  }
}

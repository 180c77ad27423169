// Display lists as text of an SVG file.

import { AXIS_FONT, hidesLayers, layerNames, VEIL } from "./axes.js";
import { placedLabels } from "./labels.js";
import { markOf, WIDEN } from "./lit.js";
import { barColour, edgeCurve } from "./paint.js";
import { edgeLook } from "./scene.js";
import { FONT } from "./sizes.js";
import { fitted, linesIn } from "./texts.js";
import { extent, LAYERS, projection } from "./view.js";

/** Return a picture {view, width, height} of a scene as SVG; rings mark what is pinned and selected in `lit`, which may be null. */
export function svgText(scene, picture, style, measure, lit = null) {
  const place = projection(picture.view, picture);
  const { width, height } = picture;
  const parts = [...backParts(scene, place, style), ...edgeParts(scene, place, style), ...scene.shapes.flatMap((shape) => shapeParts(shape, place, style, measure)), ...markParts(lit, place, style)];
  const labels = placedLabels(scene, picture, measure).map((label) => labelPart(label, style));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${number(width)}" height="${number(height)}" viewBox="0 0 ${number(width)} ${number(height)}" font-family="${escaped(style.font)}">`,
    element("rect", { width, height, fill: style.paper }), ...parts, ...labels, ...layerParts(scene, picture, style), "</svg>", "",
  ].join("\n");
}

function backParts(scene, { px, py }, style) {
  const [top, bottom] = [py(scene.rows.at(-1)?.top ?? 0), py(scene.rows[0]?.bottom ?? 0)];
  const box = (left, right, y, fill) => element("rect", { x: px(left), y, width: px(right) - px(left), height: bottom - y, rx: 6, fill });
  const [left, right] = [px(scene.columns[0].left), px(scene.columns.at(-1).right)];
  return [
    ...scene.columns.map((column) => box(column.left, column.right, top, style.band)),
    ...scene.bands.map((band) => box(band.left, band.right, top - 18, style[`band-${band.tone}`] ?? style["band-text"])),
    ...scene.bands.map((band) => textElement(band.name, px(band.left) + 6, top - 9, FONT, style["ink-soft"], "start")),
    ...scene.rows.map((row) => element("line", { x1: left, x2: right, y1: py(row.bottom), y2: py(row.bottom), stroke: style.rule })),
  ];
}

/** Return the names of layers, over what the view hides at the left. */
function layerParts(scene, picture, style) {
  const veil = { width: LAYERS, height: picture.height, fill: style.paper, "fill-opacity": VEIL };
  const names = layerNames(scene, picture).map(({ text, x, y }) => textElement(text, x, y, AXIS_FONT, style["ink-faint"], "start"));
  return hidesLayers(scene, picture) ? [element("rect", veil), ...names] : names;
}

function edgeParts(scene, place, style) {
  return Array.from(scene.edges.key, (key, edge) => {
    const look = edgeLook(key, scene.edges);
    const [x1, y1, bend1, bend2, x2, y2] = edgeCurve(scene, edge, place).map(number);
    return element("path", {
      d: `M${x1} ${y1}C${x1} ${bend1} ${x2} ${bend2} ${x2} ${y2}`, fill: "none", stroke: style[look.tone], "stroke-width": look.width,
      "stroke-opacity": look.alpha, ...(look.dashed ? { "stroke-dasharray": "5 4" } : {}),
    });
  });
}

function shapeParts(shape, place, style, measure) {
  const grow = Math.max(place.grow, shape.least);
  const [w, h] = extent(shape, place);
  const at = { x: place.px(shape.x), y: place.py(shape.y), w, h };
  const look = { fill: style[shape.fill], stroke: style[shape.stroke], "stroke-width": shape.line };
  const line = ({ text, dy, size, colour, isBold }) =>
    textElement(fitted(text, ((2 * w - 6) * FONT) / size, measure), at.x, at.y + dy, size, style[colour], "middle", isBold ? 600 : null);
  const inset = Math.min(6 * grow, w / 3);
  const bar = shape.bar ? [element("rect", { x: at.x - w + inset, y: at.y + h - 3.5 * grow, width: 2 * (w - inset) * Math.min(1, shape.bar), height: 2 * grow, fill: style[barColour(shape)] })] : [];
  const behind = shape.form === "card" ? [outlineElement(shape.form, { ...at, x: at.x + 2.5 * grow, y: at.y - 2.5 * grow }, look)] : [];
  const ring = shape.ring ? [outlineElement(shape.form, { ...at, w: at.w + 2, h: at.h + 2 }, { fill: "none", stroke: style[shape.ring], "stroke-width": 2.5 })] : [];
  return [...behind, outlineElement(shape.form, at, look), ...ring, ...bar, ...linesIn(shape, h, grow).map(line)];
}

function markParts(lit, place, style) {
  return (lit?.shapes ?? []).filter(({ at }) => markOf(lit, at)).map((shape) => {
    const [[w, h], { width, dash }] = [extent(shape, place), markOf(lit, shape.at)];
    const look = { fill: "none", stroke: style.accent, "stroke-width": width, ...(dash.length ? { "stroke-dasharray": dash.join(" ") } : {}) };
    return outlineElement(shape.form, { x: place.px(shape.x), y: place.py(shape.y), w: w + WIDEN, h: h + WIDEN }, look);
  });
}

function outlineElement(form, { x, y, w, h }, look) {
  const points = {
    diamond: [[x, y - h], [x + w, y], [x, y + h], [x - w, y]],
    left: [[x + w, y - h], [x - w, y], [x + w, y + h]],
    right: [[x - w, y - h], [x + w, y], [x - w, y + h]],
  }[form];
  if (form === "circle") return element("circle", { cx: x, cy: y, r: w, ...look });
  if (points) return element("polygon", { points: points.map((point) => point.map(number).join(",")).join(" "), ...look });
  return element("rect", { x: x - w, y: y - h, width: 2 * w, height: 2 * h, rx: form === "pill" ? h : 6, ...look });
}

function labelPart({ text, x, y, size, align, isNamed }, style) {
  const anchor = { left: "start", right: "end", center: "middle" }[align];
  return textElement(text, x, y, size, isNamed ? style.ink : style["ink-soft"], anchor);
}

function textElement(text, x, y, size, fill, anchor = "middle", weight = null) {
  const attributes = { x, y, dy: "0.35em", "font-size": size, fill, "text-anchor": anchor, ...(weight ? { "font-weight": weight } : {}) };
  return `${element("text", attributes).slice(0, -2)}>${escaped(text)}</text>`;
}

function element(name, attributes) {
  const text = Object.entries(attributes).map(([key, value]) => ` ${key}="${typeof value === "number" ? number(value) : escaped(String(value))}"`);
  return `<${name}${text.join("")}/>`;
}

function number(value) {
  return String(Math.round(value * 100) / 100);
}

function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
}

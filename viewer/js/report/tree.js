// Pictures that Python drew, as trees [tag, attributes, child, …]: the page never parses markup.

import { s } from "../ui/dom.js";

const DRAWN = new Set(["svg", "g", "rect", "circle", "path", "polygon", "text", "title"]);

/** Return the SVG element of a tree. Elements that do not draw, and listeners, are left out. */
export function svgOf([tag, attributes, ...children]) {
  const safe = Object.fromEntries(Object.entries(attributes).filter(([name]) => !/^on|href$|^style$/i.test(name)));
  const inside = children.map((child) => (typeof child === "string" ? child : DRAWN.has(child[0]) && svgOf(child)));
  return s(tag, safe, ...inside);
}

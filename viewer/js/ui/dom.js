// Elements without markup: text is always data.

import { printable } from "../data/visible.js";

const READ_OUT = /^(title|alt|placeholder|aria-.*)$/; // attributes whose texts people see or hear
const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an element: h("button", { class: "tool", title: "Fit", onclick: fit }, "Fit").
 *
 * Properties that begin with "on" are listeners, `dataset` is an object, `true` and `false` set and omit an attribute;
 * of aria- attributes, `true` is written.
 * Children are elements, texts, arrays of both; null, undefined and false are passed over. Invisible characters of texts get
 * signs, also in titles and names for screen readers.
 */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Return an SVG element, as `h`. */
export function s(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

/** Put new children into an element, as those of `h`. */
export function replaceChildren(element, ...children) {
  const shown = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  element.replaceChildren(...shown.map(legible));
  return element;
}

/** Return a text with signs for invisible characters and those that turn its direction; other values as they are. */
function legible(value) {
  return typeof value === "string" ? printable(value) : value;
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (READ_OUT.test(name)) element.setAttribute(name, legible(value));
    else element.setAttribute(name, value === true ? "" : value);
  }
  return replaceChildren(element, ...children);
}

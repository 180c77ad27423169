// Elements without markup: text is always data.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an element: h("button", { class: "tool", title: "Fit", onclick: fit }, "Fit").
 *
 * Properties that begin with "on" are listeners, `dataset` is an object, `true` and `false` set and omit an attribute;
 * of aria- attributes, `true` is written.
 * Children are elements, texts, arrays of both; null, undefined and false are passed over.
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
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : value);
  }
  return replaceChildren(element, ...children);
}

// Buttons of the panel. They are found by their key when the panel is built again, so that the focus can stay.

import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";

/** Return a button without a frame; `kind` adds classes. */
export function quietButton(key, kind, onclick, properties, ...content) {
  return h("button", { type: "button", class: `quiet ${kind}`, dataset: { key }, onclick, ...properties }, ...content);
}

/** Return a button with an icon; its title is its name for screen readers too. */
export function iconButton(key, title, name, onclick, properties = {}) {
  const attributes = { type: "button", class: "icon-button small", title, "aria-label": title, dataset: { key }, onclick };
  return h("button", { ...attributes, ...properties }, icon(name));
}

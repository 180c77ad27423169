// The keyboard in a circuit: one button that lies over the focused node, and moves with it.

import { h } from "../ui/dom.js";

/**
 * Return {element, place, label}: a button for the focused node.
 *
 * Handlers: first() when the keyboard comes in, move(key) for an arrow, pin(), select(), open(), leave().
 */
export function createFocus(handlers) {
  const element = h("button", { class: "circuit-focus", type: "button", "aria-label": "Circuit", onkeydown: press, onfocus: () => handlers.first(), onblur: () => handlers.leave() });
  const actions = { Enter: () => handlers.pin(), " ": () => handlers.select() };

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = event.key.startsWith("Arrow") ? () => handlers.move(event.key) : actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  return {
    element,
    /** Lie over pixels [left, top, right, bottom]. */
    place([left, top, right, bottom]) {
      element.style.transform = `translate(${left}px, ${top}px)`;
      element.style.width = `${right - left}px`;
      element.style.height = `${bottom - top}px`;
    },
    label(text, isPinned) {
      element.setAttribute("aria-label", text);
      element.setAttribute("aria-pressed", String(isPinned));
    },
  };
}

// Dialogs and short messages.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const TOAST_MS = 6000;

/**
 * Open a modal dialog and return {element, close}. `actions` are buttons: {title, run, primary}; each closes the dialog, unless
 * `run` returns false. `onclose` is called however it closes.
 */
export function openDialog({ title, content, actions = [], wide = false, onclose = () => {} }) {
  const close = () => element.close();
  const button = ({ title: name, run = () => {}, primary }) =>
    h("button", { type: "button", class: primary ? "primary" : null, onclick: () => run() !== false && close() }, name);
  const element = h("dialog", { class: wide ? "dialog wide" : "dialog", "aria-label": title },
    h("header", { class: "dialog-head" }, h("h2", {}, title),
      h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: close }, icon("close"))),
    h("div", { class: "dialog-body", tabindex: 0 }, content),
    actions.length > 0 && h("footer", { class: "dialog-actions" }, actions.map(button)));
  element.addEventListener("click", (event) => event.target === element && close()); // the backdrop
  element.addEventListener("close", () => {
    element.remove();
    onclose();
  });
  document.body.append(element);
  element.showModal();
  return { element, close };
}

/**
 * Return {show(text, {tone, action, about})}, which shows a message for some seconds; tone "bad" stays until it is closed, or until there
 * is another one of the same text or `about` the same.
 */
export function createToasts(app, root) {
  const place = h("div", { class: "toasts" });
  root.append(place);
  return {
    show(text, { tone = "plain", action = null, about = text } = {}) {
      const close = () => toast.remove();
      const toast = h("div", { class: `toast ${tone}`, dataset: { about } }, h("span", {}, text),
        action && h("button", { type: "button", class: "quiet", onclick: () => (action.run(), close()) }, action.title),
        h("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: close }, icon("close")));
      [...place.children].find((other) => other.dataset.about === about)?.remove();
      place.append(toast);
      app.announce(text);
      if (tone !== "bad") setTimeout(close, TOAST_MS);
    },
  };
}

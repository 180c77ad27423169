// Paper: the whole circuit as a drawing in the colours of light, instead of the canvas.

import { svgElement } from "../data/trusted.js";
import { h } from "./dom.js";

/** Put the drawing before the circuit when the page is printed, and "Print" into the menu. */
export function mountPrint(app, places) {
  const place = h("div", { class: "print-picture" });
  places.circuit.before(place);
  const root = document.documentElement;
  let theme = null;
  const paint = (name) => {
    root.dataset.theme = name;
    app.emit("theme");
  };
  app.commands.add({ id: "print", title: "Print", group: "Export", run: () => print() });
  places.menu.add(app.commands.get("print"));
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    paint("light");
    if (app.circuit) place.replaceChildren(svgElement(app.circuit.svg({ isWhole: true })));
  });
  addEventListener("afterprint", () => {
    place.replaceChildren();
    if (theme) paint(theme);
  });
}

// Paper: the whole circuit as a drawing in the colours of light, instead of the canvas.

import { svgElement } from "../data/trusted.js";

/** Fill `place` with the drawing before the page is printed. */
export function mountPrint(app, place) {
  const root = document.documentElement;
  let theme = null;
  const paint = (name) => {
    root.dataset.theme = name;
    app.emit("theme");
  };
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

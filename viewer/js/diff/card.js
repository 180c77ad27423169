// The small card beside a unit under the pointer: its influence in A and in B.

import { h, replaceChildren } from "../ui/dom.js";
import { percent } from "../ui/format.js";
import { placeCard } from "../panel/hover_card.js";
import { SIDES } from "./comparison.js";
import { statusSign } from "./look.js";
import { unitLabel } from "./model.js";

/** Return {show(unit or null)}: a card that follows the pointer inside of `element`. */
export function createUnitCard(comparison, element) {
  const card = h("div", { class: "hover-card unit-card", role: "tooltip", hidden: true });
  document.body.append(card);
  let pointer = null;
  element.addEventListener("pointermove", ({ clientX, clientY }) => {
    pointer = { x: clientX, y: clientY };
    if (!card.hidden) placeCard(card, pointer, element);
  }, { capture: true, passive: true });
  const show = (unit) => {
    card.hidden = unit === null || !pointer;
    if (card.hidden) return;
    replaceChildren(card, ...content(comparison, unit));
    placeCard(card, pointer, element);
  };
  element.addEventListener("pointerleave", () => {
    pointer = null;
    show(null);
  });
  return { show };
}

function content(comparison, unit) {
  const { name, status } = comparison.units;
  const label = unitLabel(comparison, unit);
  return [
    h("p", { class: "hover-title" }, statusSign(status[unit]), label && h("bdi", {}, label), h("span", { class: label ? "code faint" : "code" }, name[unit])),
    h("p", { class: "faint" }, `${comparison.status(unit).title}; influence along the edges of these files`),
    influenceBars(comparison, unit, Math.max(comparison.larger(unit), 1e-12)),
  ];
}

/** Return the influences of a unit in both graphs as bars, relative to `largest`. */
export function influenceBars(comparison, unit, largest) {
  return h("dl", { class: "unit-bars" }, ...SIDES.flatMap((title, side) => {
    const influence = comparison.influences[side][unit];
    const fill = h("span", { class: `unit-fill side-${title.toLowerCase()}` });
    fill.style.width = `${(100 * influence) / largest}%`;
    const isThere = comparison.nodesOf[side][unit] >= 0;
    return [h("dt", {}, title), h("dd", {}, h("span", { class: "unit-bar" }, fill), h("span", { class: "number" }, isThere ? percent(influence) : "not there"))];
  }));
}

// The tour: a few cards, each beside what it explains. It begins by itself on the first visit, and never covers the page.

import { h, replaceChildren } from "./dom.js";
import { icon } from "./icons.js";

const SEEN = "cotrace.tour";
const GAP_PX = 12;
const STEPS = [
  [".circuit", "The circuit", "Layers from bottom to top, tokens from left to right. Point at a node to see its inputs and outputs; click to pin it. Blue raises, dashed orange lowers."],
  [".controls", "Prune live", "Drag a threshold: the circuit and both scores are computed again by the rule that Python uses. What is hidden is counted."],
  [".panel-frame", "Details", "The pinned node: its inputs and outputs, how its row adds up, its effects, and what the feature responds to."],
  [".drawer-bar", "Tables and groups", "All nodes to search, sort and filter; suggested groups to accept with one click."],
  [".header-tools", "Find, share, export", "Press / to find a node, ? for all shortcuts. A link holds what you see; a saved file holds your groups and labels."],
];

/** Register the tour, and begin it where this browser has not shown it yet. */
export function mountTour(app, places) {
  app.commands.add({ id: "tour", title: "Take the tour", group: "Help", run: () => startTour(app, { takesFocus: true }) });
  places.menu.add(app.commands.get("tour"));
  if (isFirstVisit()) startTour(app);
}

/** True only where the browser can remember that it has shown the tour. */
function isFirstVisit() {
  try {
    if (localStorage.getItem(SEEN)) return false;
    localStorage.setItem(SEEN, "begun");
    return localStorage.getItem(SEEN) !== null;
  } catch {
    return false;
  }
}

let endLast = () => {};

function startTour(app, { takesFocus = false } = {}) {
  endLast();
  const before = document.activeElement;
  const steps = STEPS.filter(([selector]) => isSeen(document.querySelector(selector)));
  const card = h("section", { class: "tour", role: "dialog", "aria-label": "Tour", tabindex: -1 });
  let at = 0;
  const place = () => placeBeside(card, document.querySelector(steps[at][0]));
  const sizes = new ResizeObserver(place);
  const end = () => {
    if (card.contains(document.activeElement)) before?.focus();
    card.remove();
    keys.abort();
    sizes.disconnect();
    mark(null);
  };
  const show = (next) => {
    if (next >= steps.length) return end();
    at = next;
    const [selector, title, text] = steps[at];
    replaceChildren(card, cardContent({ title, text, at, total: steps.length, show, end }));
    mark(document.querySelector(selector));
    sizes.disconnect();
    sizes.observe(document.querySelector(selector)); // places the card at once
    app.announce(`${title}. ${text}`);
    return at > 0 && card.querySelector(".primary").focus({ preventScroll: true });
  };
  const keys = new AbortController();
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // one thing at a time
    end();
  }, { capture: true, signal: keys.signal });
  document.body.append(card);
  show(0);
  endLast = end;
  if (takesFocus) requestAnimationFrame(() => card.focus()); // after a dialog or menu gave the focus back
}

function cardContent({ title, text, at, total, show, end }) {
  const isLast = at === total - 1;
  return [
    h("header", {}, h("h2", {}, title), h("button", { type: "button", class: "icon-button", "aria-label": "End the tour", onclick: end }, icon("close"))),
    h("p", {}, text),
    h("footer", {}, h("span", { class: "faint" }, `${at + 1} of ${total}`), h("span", {},
      at > 0 && h("button", { type: "button", class: "quiet", onclick: () => show(at - 1) }, "Back"),
      h("button", { type: "button", class: "primary", onclick: () => show(at + 1) }, isLast ? "Done" : "Next"))),
  ];
}

function isSeen(element) {
  const box = element?.getBoundingClientRect();
  return Boolean(box && box.width && box.height);
}

function mark(element) {
  document.querySelector(".tour-place")?.classList.remove("tour-place");
  element?.classList.add("tour-place");
}

/** Put the card where it covers least: inside of the upper left corner of a large place, beside a high one, else below or above a small one. */
function placeBeside(card, element) {
  const box = element.getBoundingClientRect();
  const [width, height] = [card.offsetWidth, card.offsetHeight];
  const [isHigh, isWide] = [box.height > 2 * height, box.width > 2 * width];
  const lowest = footTop() - GAP_PX - height;
  const below = box.bottom + GAP_PX + height < innerHeight ? box.bottom + GAP_PX : Math.min(box.top - GAP_PX - height, lowest);
  const beside = Math.min(box.bottom - GAP_PX - height, lowest);
  const [top, left] = [isWide ? box.top + GAP_PX : beside, isWide ? box.left + GAP_PX : isHigh ? box.left - GAP_PX - width : box.right - width];
  card.style.top = `${clamped(isHigh ? top : below, innerHeight - height)}px`;
  card.style.left = `${clamped(left, innerWidth - width)}px`;
}

/** Return where the foot of the circuit begins, which the card leaves free. */
function footTop() {
  const feet = [...document.querySelectorAll(".circuit-foot, .view-tools")].filter(isSeen);
  return Math.min(innerHeight, ...feet.map((foot) => foot.getBoundingClientRect().top));
}

function clamped(value, most) {
  return Math.max(8, Math.min(most - 8, value));
}

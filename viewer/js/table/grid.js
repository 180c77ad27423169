// A table of many rows, of which only those in sight have elements.

import { h, replaceChildren } from "../ui/dom.js";

const MARGIN_ROWS = 8; // above and below what is seen
const JUMPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/**
 * Return {element, show, refresh}. `show(rows, columns, sort)` replaces what is shown, `refresh()` draws it again.
 *
 * `on` has listeners: activate(row) for a click or Enter, select(row) for Space or a click with a key, hover(row or null), sort(column id).
 * `marks(row)` returns {pinned, selected, dim}.
 */
export function createGrid({ label, on, marks }) {
  const head = h("div", { role: "row", class: "grid-head", "aria-rowindex": 1 });
  const space = h("div", { class: "grid-space" });
  const body = h("div", { class: "grid-body", role: "rowgroup" }, space);
  const element = h("div", { class: "grid", role: "grid", tabindex: 0, "aria-label": label }, h("div", { role: "rowgroup", class: "grid-head-group" }, head), body);
  const shown = { rows: [], columns: [], active: 0, elements: new Map() };

  const heightOf = () => parseFloat(getComputedStyle(element).getPropertyValue("--row")) || 30;
  const draw = () => {
    const height = heightOf();
    const top = element.scrollTop;
    const first = Math.max(0, Math.floor(top / height) - MARGIN_ROWS);
    const stop = Math.min(shown.rows.length, Math.ceil((top + element.clientHeight) / height) + MARGIN_ROWS);
    space.style.height = `${shown.rows.length * height}px`;
    shown.elements.forEach((row, at) => (at < first || at >= stop) && (row.remove(), shown.elements.delete(at)));
    for (let at = first; at < stop; at++) if (!shown.elements.has(at)) addRow(at, height);
    const active = shown.elements.get(shown.active);
    if (active) element.setAttribute("aria-activedescendant", active.id);
    else element.removeAttribute("aria-activedescendant");
  };
  const addRow = (at, height) => {
    const row = rowElement(shown, at, marks(shown.rows[at]));
    row.style.top = `${at * height}px`;
    shown.elements.set(at, row);
    space.append(row);
  };
  const refresh = () => {
    shown.elements.forEach((row) => row.remove());
    shown.elements.clear();
    draw();
  };
  const activate = (at) => {
    shown.active = Math.max(0, Math.min(shown.rows.length - 1, at));
    const [height, top] = [heightOf(), element.scrollTop];
    const [from, room] = [shown.active * height, element.clientHeight - head.offsetHeight];
    if (from < top) element.scrollTop = from;
    else if (from + height > top + room) element.scrollTop = from + height - room;
    refresh();
  };
  listen({ element, shown, on, activate, heightOf });
  element.addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(draw).observe(element);

  return {
    element,
    refresh,
    show(rows, columns, sort) {
      Object.assign(shown, { rows, columns, active: Math.min(shown.active, Math.max(0, rows.length - 1)) });
      element.setAttribute("aria-rowcount", rows.length + 1);
      element.setAttribute("aria-colcount", columns.length);
      replaceChildren(head, columns.map((column) => headCell(column, sort, on)));
      refresh();
    },
  };
}

function listen({ element, shown, on, activate, heightOf }) {
  const at = (event) => Number(event.target.closest?.("[data-at]")?.dataset.at ?? -1);
  element.addEventListener("click", (event) => {
    const place = at(event);
    if (place < 0) return;
    activate(place);
    if (event.shiftKey || event.ctrlKey || event.metaKey) on.select(shown.rows[place]);
    else on.activate(shown.rows[place]);
  });
  element.addEventListener("pointerover", (event) => on.hover(shown.rows[at(event)] ?? null));
  element.addEventListener("pointerleave", () => on.hover(null));
  element.addEventListener("keydown", (event) => {
    if (event.target !== element || !shown.rows.length) return;
    const page = Math.max(1, Math.floor(element.clientHeight / heightOf()) - 2);
    const jump = { ...JUMPS, PageDown: page, PageUp: -page }[event.key];
    if (jump !== undefined) activate(shown.active + jump);
    else if (event.key === "Enter") on.activate(shown.rows[shown.active]);
    else if (event.key === " ") on.select(shown.rows[shown.active]);
    else return;
    event.preventDefault();
  });
}

function headCell({ id, title, isNumber }, sort, on) {
  const isSorted = sort.column.id === id;
  const direction = sort.descending ? "descending" : "ascending";
  return h("div", { role: "columnheader", class: isNumber ? "cell number" : "cell", dataset: { column: id }, "aria-sort": isSorted ? direction : "none" },
    h("button", { type: "button", class: "quiet", dataset: { sort: id }, title: `Sort by ${title.toLowerCase()}`, onclick: () => on.sort(id) }, h("span", {}, title)));
}

function rowElement(shown, at, { pinned, selected, dim }) {
  const row = shown.rows[at];
  const classes = ["grid-row", at === shown.active && "active", pinned && "pinned", dim && "dim"].filter(Boolean).join(" ");
  return h("div", { role: "row", id: `row-${at}`, class: classes, "aria-rowindex": at + 2, "aria-selected": String(selected), dataset: { at } },
    shown.columns.map(({ id, isNumber, cell }) => h("div", { role: "gridcell", class: isNumber ? "cell number" : "cell", dataset: { column: id } }, cell(row))));
}

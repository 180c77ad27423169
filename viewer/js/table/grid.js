// A table of many rows, of which only those in sight have elements.

import { h, replaceChildren } from "../ui/dom.js";

const MARGIN_ROWS = 8; // above and below what is seen
const ROW_PX = 28; // where the style sheet says nothing else by --row
const JUMPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/**
 * Rows are any values. `on` has listeners: activate(row) for a click or Enter, select(row) for Space or a click with a key,
 * hover(row or null), sort(column id). `marks(row)` returns {pinned, selected, dim}. The focus is on the table, which names its
 * active row, so that a row may lose its element.
 */
export class Grid {
  constructor({ label, on, marks }) {
    Object.assign(this, { on, marks, rows: [], columns: [], active: 0, elements: new Map() });
    this.head = h("div", { role: "row", class: "grid-head", "aria-rowindex": 1 });
    this.space = h("div", { class: "grid-space" });
    this.element = h("div", { class: "grid", role: "grid", tabindex: 0, "aria-label": label },
      h("div", { role: "rowgroup", class: "grid-head-group" }, this.head), h("div", { class: "grid-body", role: "rowgroup" }, this.space));
    this.#listen();
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  /** Show rows in columns {id, title, isNumber, cell(row)}, sorted by {column, descending}. */
  show(rows, columns, sort) {
    Object.assign(this, { rows, columns, active: Math.min(this.active, Math.max(0, rows.length - 1)) });
    this.element.setAttribute("aria-rowcount", rows.length + 1);
    this.element.setAttribute("aria-colcount", columns.length);
    replaceChildren(this.head, columns.map((column) => headCell(column, sort, this.on)));
    this.refresh();
  }

  /** Draw the rows in sight again. */
  refresh() {
    this.elements.forEach((row) => row.remove());
    this.elements.clear();
    this.#draw();
  }

  get #rowHeight() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || ROW_PX;
  }

  #draw() {
    const height = this.#rowHeight;
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / height) - MARGIN_ROWS);
    const stop = Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / height) + MARGIN_ROWS);
    this.space.style.height = `${this.rows.length * height}px`;
    this.elements.forEach((row, at) => (at < first || at >= stop) && (row.remove(), this.elements.delete(at)));
    for (let at = first; at < stop; at++) if (!this.elements.has(at)) this.#add(at, height);
    const active = this.elements.get(this.active);
    if (active) this.element.setAttribute("aria-activedescendant", active.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  #add(at, height) {
    const row = this.#rowElement(at);
    row.style.top = `${at * height}px`;
    this.elements.set(at, row);
    this.space.append(row);
  }

  #rowElement(at) {
    const row = this.rows[at];
    const { pinned, selected, dim } = this.marks(row);
    const classes = ["grid-row", at === this.active && "active", pinned && "pinned", dim && "dim"].filter(Boolean).join(" ");
    return h("div", { role: "row", id: `row-${at}`, class: classes, "aria-rowindex": at + 2, "aria-selected": String(selected), dataset: { at } },
      this.columns.map(({ id, isNumber, cell }) => h("div", { role: "gridcell", class: isNumber ? "cell number" : "cell", dataset: { column: id } }, cell(row))));
  }

  /** Make a row the active one, and scroll to it. */
  #activate(at) {
    this.active = Math.max(0, Math.min(this.rows.length - 1, at));
    const [height, { element }] = [this.#rowHeight, this];
    const [from, room] = [this.active * height, element.clientHeight - this.head.offsetHeight];
    if (from < element.scrollTop) element.scrollTop = from;
    else if (from + height > element.scrollTop + room) element.scrollTop = from + height - room;
    this.refresh();
  }

  #listen() {
    const { element, on } = this;
    const at = ({ target }) => Number(target.closest?.("[data-at]")?.dataset.at ?? -1);
    element.addEventListener("scroll", () => this.#draw(), { passive: true });
    element.addEventListener("pointerover", (event) => on.hover(this.rows[at(event)] ?? null));
    element.addEventListener("pointerleave", () => on.hover(null));
    element.addEventListener("keydown", (event) => this.#press(event));
    element.addEventListener("click", (event) => {
      const place = at(event);
      if (place < 0) return;
      this.#activate(place);
      if (event.shiftKey || event.ctrlKey || event.metaKey) on.select(this.rows[place]);
      else on.activate(this.rows[place]);
    });
  }

  #press(event) {
    if (event.target !== this.element || !this.rows.length) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.#rowHeight) - 2);
    const jump = { ...JUMPS, PageDown: page, PageUp: -page }[event.key];
    if (jump !== undefined) this.#activate(this.active + jump);
    else if (event.key === "Enter") this.on.activate(this.rows[this.active]);
    else if (event.key === " ") this.on.select(this.rows[this.active]);
    else return;
    event.preventDefault();
  }
}

function headCell({ id, title, isNumber }, sort, on) {
  const direction = sort.descending ? "descending" : "ascending";
  return h("div", { role: "columnheader", class: isNumber ? "cell number" : "cell", dataset: { column: id }, "aria-sort": sort.column.id === id ? direction : "none" },
    h("button", { type: "button", class: "quiet", dataset: { sort: id }, title: `Sort by ${title.toLowerCase()}`, onclick: () => on.sort(id) }, h("span", {}, title)));
}

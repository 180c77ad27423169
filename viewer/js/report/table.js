// A table with every column of some rows.

import { h } from "../ui/dom.js";
import { number } from "../ui/format.js";

const MAX_ROWS = 500;
const LONG = 24; // characters of a cell that wraps
const FIRST_COLUMNS = ["name", "step", "text", "value", "stated_value", "verdict", "confirmed", "score", "reason"];

/**
 * Return a table of rows, each an object: those columns that have values, except `without`. Of many rows the first
 * are shown, and a button shows the others.
 */
function fullTable(caption, rows, without = []) {
  const columns = columnsOf(rows).filter((column) => !without.includes(column));
  const body = h("tbody", {}, ...rows.slice(0, MAX_ROWS).map((row) => rowOf(columns, row)));
  const table = h("table", { class: "full-table" },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", {}, h("tr", {}, ...columns.map((column) => h("th", { scope: "col" }, column.replaceAll("_", " "))))),
    body,
  );
  const more = rows.length > MAX_ROWS && h("button", {
    type: "button",
    onclick: ({ target }) => {
      body.append(...rows.slice(MAX_ROWS).map((row) => rowOf(columns, row)));
      target.remove();
    },
  }, `Show ${rows.length - MAX_ROWS} more rows`);
  return h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": caption }, table, more);
}

/** Return the same table, folded. */
export function foldedTable(title, rows, without) {
  return h("details", { class: "folded" }, h("summary", {}, title), fullTable(title, rows, without));
}

function columnsOf(rows) {
  const found = rows.length ? Object.keys(rows[0]) : [];
  const ordered = [...FIRST_COLUMNS.filter((column) => found.includes(column)), ...found.filter((column) => !FIRST_COLUMNS.includes(column))];
  return ordered.filter((column) => rows.some((row) => row[column] !== null && row[column] !== undefined));
}

function rowOf(columns, row) {
  return h("tr", {}, ...columns.map((column) => cell(row[column])));
}

function cell(value) {
  if (value === null || value === undefined) return h("td");
  if (typeof value === "boolean") return h("td", {}, value ? "yes" : "no");
  if (typeof value === "number") return h("td", { class: "number" }, Number.isInteger(value) ? value : number(value));
  const text = (Array.isArray(value) ? value.join(", ") : String(value)).trim();
  return h("td", { class: text.length > LONG && "long", dir: "auto" }, text);
}

// Tables of parts with signed bars, above what they add up to.

import { h } from "../ui/dom.js";
import { largestOf, signedBar, sizeBar } from "./bar.js";
import { decimalsOf, exact, signedText, signedValue } from "./number.js";

/**
 * Return a table. A part is {name, value, note?, isSize?}: `note` stands beside the name, a size has no sign. `total`, a part
 * as well, is below a rule.
 */
export function sumTable(parts, total = null) {
  const values = parts.map(({ value }) => value);
  const [largest, decimals] = [largestOf(values), decimalsOf(total ? [...values, total.value] : values)];
  return h("table", { class: "sum-table" },
    h("tbody", {}, parts.map((part) => line(part, barOf(part, largest), decimals))),
    total && h("tfoot", {}, line(total, null, decimals)));
}

function line({ name, value, note, isSize }, bar, decimals) {
  const number = isSize ? exact(value, `±${signedText(value, decimals).slice(1)}`) : signedValue(value, decimals);
  const beside = note && h("span", { class: "faint number" }, ` ${note}`);
  return h("tr", { dataset: { part: name } }, h("th", { scope: "row" }, name, beside), h("td", {}, bar), h("td", {}, number));
}

function barOf({ value, isSize }, largest) {
  return isSize ? sizeBar(value, largest) : signedBar(value, largest);
}

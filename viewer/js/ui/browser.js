// What the page needs of a browser: what Chrome 120, Firefox 125 and Safari 17 have.

const NEEDS = [
  ["DecompressionStream", () => "DecompressionStream" in globalThis],
  ["OffscreenCanvas", () => "OffscreenCanvas" in globalThis],
  ["Worker", () => "Worker" in globalThis],
  ["popovers", () => "showPopover" in HTMLElement.prototype],
  ["container queries", () => CSS.supports("container-type: inline-size")],
];

/** Throw an error that says so if this browser is too old. */
export function checkBrowser() {
  const missing = NEEDS.filter(([, isThere]) => !isThere()).map(([name]) => name);
  if (missing.length) throw new Error(`this browser is too old, it lacks ${missing.join(", ")}`);
}

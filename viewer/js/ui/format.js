// Numbers as text, the same in every part of the page. A missing number is "–".

/** Return a share as a percentage: 59%, 6.4%, 0.21%, <0.01%. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = 100 * share;
  if (value === 0) return "0%";
  if (Math.abs(value) < 0.01) return value > 0 ? "<0.01%" : ">−0.01%";
  return `${decimals(value, Math.abs(value) >= 9.95 ? 0 : Math.abs(value) >= 0.995 ? 1 : 2)}%`;
}

/** Return a share and its standard error as percentages, to the first digit of the error: 4.2% ± 0.3%. */
export function percentWithError(share, error) {
  const size = 100 * error;
  const digits = Math.min(2, Math.max(0, -Math.floor(Math.log10(size))));
  const text = (value) => (value < 0.01 ? percent(value / 100) : `${decimals(value, digits)}%`);
  return `${text(100 * share)} ±\u00a0${text(size)}`; // a line may end between the two
}

/** Return a sentence with the 95% interval of a score, or null for a score without one. */
export function intervalText(interval) {
  return interval ? `An estimate; 95% interval: ${interval.map((end) => end.toFixed(4)).join(" to ")}` : null;
}

/** Return a number with three significant digits: 12.3, 0.0456, 1.2e−7. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e6 || size < 1e-4) return value.toExponential(1).replace("-", "−").replace("e-", "e−").replace("e+", "e");
  return decimals(value, Math.max(0, 2 - Math.floor(Math.log10(size))));
}

/** Return a number with its sign: +0.31, −1.20. */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}

/** Return a count with separators: 12,345. */
export function count(value) {
  return value.toLocaleString("en");
}

/** Return a number with its noun: 1 node, 12,345 nodes. */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

function decimals(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

// Texts of a circuit: short enough for their places.

/** Return a text cut to a width in pixels, with an ellipsis; `measure` returns the width of a text. */
export function fitted(text, width, measure) {
  if (measure(text) <= width) return text;
  let [fits, count] = [0, text.length];
  while (fits < count) {
    const middle = (fits + count + 1) >> 1;
    if (measure(`${text.slice(0, middle)}…`) <= width) fits = middle;
    else count = middle - 1;
  }
  return fits ? `${text.slice(0, fits).trimEnd()}…` : "";
}

// Frames of open groups: as large as their members in a grid need.

const TITLE = 20;
const PADDING = 8;

/** Return the shapes of items with those of open groups as frames, and `dx` and `dy` from a frame's centre for its members. */
export function framed(items, shapes) {
  const members = new Map();
  items.forEach(({ inside }, at) => inside !== undefined && members.set(inside, [...(members.get(inside) ?? []), at]));
  const result = [...shapes];
  for (const [frame, inner] of members) {
    const perLine = Math.ceil(Math.sqrt(inner.length));
    const [width, height] = ["width", "height"].map((name) => Math.max(...inner.map((at) => shapes[at][name])));
    const [columns, lines] = [Math.min(perLine, inner.length), Math.ceil(inner.length / perLine)];
    const w = Math.max(shapes[frame].w, (columns * width) / 2 + PADDING);
    const h = (lines * height + TITLE) / 2 + PADDING;
    result[frame] = { w, h, lead: w + PADDING, width: 2 * (w + PADDING), height: 2 * (h + PADDING) };
    inner.forEach((at, number) => {
      const [column, line] = [number % perLine, Math.floor(number / perLine)];
      const dx = -w + PADDING + column * width + shapes[at].lead;
      result[at] = { ...shapes[at], dx, dy: -h + TITLE + PADDING + (line + 0.5) * height };
    });
  }
  return result;
}

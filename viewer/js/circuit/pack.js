// Boxes side by side on a line.

/**
 * Return the left ends of boxes between `low` and `high`, each close to where it is wanted, in the given order.
 *
 * Boxes that would overlap form a block around the mean of their wanted places.
 */
export function packed(wanted, widths, low, high) {
  const blocks = []; // {left, width, count}
  wanted.forEach((place, at) => {
    let block = { left: clamped(place, widths[at], low, high), width: widths[at], count: 1 };
    while (blocks.length && blocks.at(-1).left + blocks.at(-1).width > block.left) block = joined(blocks.pop(), block, low, high);
    blocks.push(block);
  });
  const lefts = [];
  for (let { left, count } of blocks) {
    for (; count; count--) {
      lefts.push(left);
      left += widths[lefts.length - 1];
    }
  }
  return lefts;
}

function joined(first, second, low, high) {
  const [width, count] = [first.width + second.width, first.count + second.count];
  const centre = ((first.left + first.width / 2) * first.count + (second.left + second.width / 2) * second.count) / count;
  return { left: clamped(centre - width / 2, width, low, high), width, count };
}

function clamped(left, width, low, high) {
  return Math.max(low, Math.min(high - width, left));
}

/** Return a list dealt into `count` lines in turn, so that each runs from the first to the last. */
export function dealt(list, count) {
  const lines = Array.from({ length: count }, () => []);
  list.forEach((each, at) => lines[at % count].push(each));
  return lines;
}

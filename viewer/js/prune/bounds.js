// Bounds of pruning for a graph without some of its rows, as graphs/pruning_bounds.py.

const ROUNDING = 1e-12; // relative error of sums of influences
const LEAST = Number.MIN_VALUE;

/** Return how many nodes certainly pass a node threshold, certainly fail it, or may do either: {inside, outside, undecided}. */
export function certainty(influence, bound, threshold) {
  const most = influence.map((value, node) => value + bound[node]);
  const { low, high } = scoreLimits(influence, most, threshold);
  const counts = { inside: 0, outside: 0, undecided: 0 };
  for (let node = 0; node < most.length; node++) {
    counts[influence[node] >= high ? "inside" : most[node] < low ? "outside" : "undecided"]++;
  }
  return counts;
}

/** Return limits of the score at a share, for any influences between `least` and `most`. */
function scoreLimits(least, most, share) {
  const scores = distinct(least, most);
  if (!scores.length) return { low: Infinity, high: Infinity };
  const isSurelyReached = (score) => {
    let [reaching, sure, rest] = [0, 0, 0];
    for (let node = 0; node < most.length; node++) {
      if (least[node] >= score) {
        reaching++;
        sure += least[node];
      } else rest += most[node] < score ? most[node] : score;
    }
    return reaching > 0 && (1 - share) * sure >= share * rest * (1 + ROUNDING);
  };
  const mayBeReached = (score) => {
    let [possible, rest] = [0, 0];
    for (let node = 0; node < most.length; node++) {
      if (most[node] >= score) possible += most[node];
      else rest += least[node];
    }
    return (1 - share) * possible * (1 + ROUNDING) >= share * rest;
  };
  return { low: last(scores, isSurelyReached) ?? LEAST, high: last(scores, mayBeReached) ?? scores[0] };
}

/** Return the positive values of two arrays, ascending, each once. */
function distinct(one, other) {
  const values = new Float64Array(one.length + other.length);
  values.set(one);
  values.set(other, one.length);
  values.sort();
  return values.filter((value, at) => value > 0 && value !== values[at - 1]);
}

/** Return the largest of ascending scores for which a condition holds that holds for all smaller ones too, or null. */
function last(scores, holds) {
  let [first, after] = [0, scores.length];
  while (first < after) {
    const middle = (first + after) >> 1;
    if (holds(scores[middle])) first = middle + 1;
    else after = middle;
  }
  return first ? scores[first - 1] : null;
}

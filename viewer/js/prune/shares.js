// The score at a share, as `score_at_share` of graphs/prune.py, by selection instead of sorting.
//
// Scores are summed in buckets by their leading bits, and only the bucket in which the share is reached is sorted. Sums carry
// their rounding errors along, so that they do not depend on the order. Where a cumulative share is so close to the asked one
// that the last bit decides, everything is sorted and summed as Python does it.

const SHIFT = 15; // of a float's upper 32 bits: the exponent and five bits of the mantissa are left
const BUCKETS = 2 ** (31 - SHIFT); // without the sign
const MARGIN = 2 ** -48; // above the rounding error of a cumulative share

/** Return the score at which the cumulative share, from the largest down, first reaches `share`; Infinity without a positive score. */
export function scoreAtShare(scores, share) {
  if (share === 1) return smallest(scores);
  const leading = new Uint32Array(scores.buffer, scores.byteOffset, 2 * scores.length);
  const { sums, errors, lowest, highest } = bucketSums(scores, leading);
  if (highest < 0) return Infinity;
  const [total, above] = [new Sum(), new Sum()];
  for (let bucket = highest; bucket >= lowest; bucket--) total.add(sums[bucket], errors[bucket]);
  let bucket = highest;
  while (bucket > lowest && above.with(sums[bucket], errors[bucket]) / total.value < share) above.add(sums[bucket], errors[bucket--]);
  return scoreInBucket(members(scores, leading, bucket), above, total.value, share) ?? scoreBySorting(scores, share);
}

/** Return the score by sorting all scores: the reference. */
function scoreBySorting(scores, share) {
  const ascending = scores.filter((score) => score > 0).sort();
  const total = new Sum();
  for (let at = ascending.length - 1; at >= 0; at--) total.add(ascending[at]);
  const sum = new Sum();
  for (let at = ascending.length - 1; at >= 0; at--) {
    sum.add(ascending[at]);
    if (sum.value / total.value >= share) return ascending[at];
  }
  return Infinity;
}

/** A sum with its rounding errors. */
class Sum {
  #sum = 0;
  #error = 0;

  add(term, error = 0) {
    const sum = this.#sum + term;
    const added = sum - this.#sum;
    this.#error += this.#sum - (sum - added) + (term - added) + error;
    this.#sum = sum;
  }

  /** Return the sum with one term more. */
  with(term, error) {
    return this.#sum + term + (this.#error + error);
  }

  get value() {
    return this.#sum + this.#error;
  }
}

/** Return the sum of each bucket with its rounding errors, and the numbers of the lowest and the highest bucket that is used. */
function bucketSums(scores, leading) {
  const [sums, errors] = [new Float64Array(BUCKETS), new Float64Array(BUCKETS)];
  let [lowest, highest] = [BUCKETS, -1];
  for (let at = 0; at < scores.length; at++) {
    const score = scores[at];
    if (!(score > 0)) continue;
    const bucket = leading[2 * at + 1] >>> SHIFT;
    if (bucket < lowest) lowest = bucket;
    if (bucket > highest) highest = bucket;
    const before = sums[bucket];
    const sum = before + score;
    const added = sum - before;
    errors[bucket] += before - (sum - added) + (score - added);
    sums[bucket] = sum;
  }
  return { sums, errors, lowest, highest };
}

/** Return the positive scores of a bucket, ascending. */
function members(scores, leading, bucket) {
  const found = [];
  for (let at = 0; at < scores.length; at++) if (leading[2 * at + 1] >>> SHIFT === bucket && scores[at] > 0) found.push(scores[at]);
  return Float64Array.from(found).sort();
}

/** Return the score of a bucket at which a share is reached, or null where rounding decides; `sum` is of all larger scores. */
function scoreInBucket(ascending, sum, total, share) {
  for (let at = ascending.length - 1; at >= 0; ) {
    const [score, before] = [ascending[at], sum.value];
    for (; at >= 0 && ascending[at] === score; at--) sum.add(score);
    if (sum.value / total < share + MARGIN) continue;
    return before === 0 || before / total < share - MARGIN ? score : null;
  }
  return null;
}

function smallest(scores) {
  let least = Infinity;
  for (let at = 0; at < scores.length; at++) if (scores[at] > 0 && scores[at] < least) least = scores[at];
  return least;
}

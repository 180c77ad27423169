// Means of independent replicates with their errors, as graphs/sampling.py.

const LEVEL = 0.95; // share of intervals that cover the true value

/** Return {value, error} of the replicates of some numbers, arrays of one length: their means and standard errors. */
export function estimateOf(replicates) {
  const [first, count] = [replicates[0], replicates.length];
  const [value, error] = [new Float64Array(first.length), new Float64Array(first.length)];
  for (let at = 0; at < first.length; at++) {
    let sum = 0;
    for (let r = 0; r < count; r++) sum += replicates[r][at] - first[at]; // replicates that agree give exactly their value
    const mean = sum / count;
    let squares = 0;
    for (let r = 0; r < count; r++) squares += (replicates[r][at] - first[at] - mean) ** 2;
    value[at] = first[at] + mean;
    error[at] = Math.sqrt(squares / (count - 1)) / Math.sqrt(count);
  }
  return { value, error };
}

/** Return {value, low, high} of a function of means, such as a ratio; `replicates` are arrays of the values in each. */
export function jackknife(statistic, replicates) {
  const [first, count] = [replicates[0], replicates.length];
  const differences = replicates.map((values) => values.map((value, at) => value - first[at]));
  const sums = first.map((_, at) => differences.reduce((sum, each) => sum + each[at], 0));
  const value = statistic(first.map((each, at) => each + sums[at] / count));
  const without = differences.map((own) => statistic(first.map((each, at) => each + (sums[at] - own[at]) / (count - 1))));
  const mean = without.reduce((sum, each) => sum + each, 0) / count;
  const error = Math.sqrt(((count - 1) / count) * without.reduce((sum, each) => sum + (each - mean) ** 2, 0));
  const half = studentQuantile(count) * error;
  return { value, low: value - half, high: value + half };
}

const quantiles = new Map(); // by number of replicates

/** Return how many standard errors a 95% interval from some replicates extends to each side. */
export function studentQuantile(replicates) {
  if (!quantiles.has(replicates)) quantiles.set(replicates, quantile(replicates - 1));
  return quantiles.get(replicates);
}

function quantile(degrees) {
  let [low, high] = [0, Math.PI / 2];
  for (let middle = Math.PI / 4; middle > low && middle < high; middle = (low + high) / 2) {
    if (shareWithin(middle, degrees) < LEVEL) low = middle;
    else high = middle;
  }
  return Math.sqrt(degrees) * Math.tan(high);
}

/** Return the share of Student's t distribution between -t and t, where tan(angle) = t / sqrt(degrees); Abramowitz and Stegun 26.7.3-4. */
function shareWithin(angle, degrees) {
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const isOdd = degrees % 2 === 1;
  let [term, sum] = [isOdd ? cosine : 1, 0];
  for (let k = isOdd ? 1 : 0; k < degrees - 1; k += 2) {
    sum += term;
    term *= (cosine * cosine * (k + 1)) / (k + 2);
  }
  return isOdd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum;
}

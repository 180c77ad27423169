// Two texts of tokens side by side: which tokens are in one of them only.

/** Return two arrays of booleans: for each token of two texts, whether it is outside their longest common subsequence. */
export function changedTokens(a, b) {
  const length = commonLengths(a, b);
  const [inA, inB] = [a.map(() => true), b.map(() => true)];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) inA[i++] = inB[j++] = false;
    else if (length[i + 1][j] >= length[i][j + 1]) i++;
    else j++;
  }
  return [inA, inB];
}

/** Return the length of the longest common subsequence of every pair of ends. */
function commonLengths(a, b) {
  const length = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  return length;
}

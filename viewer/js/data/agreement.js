// How a measured change agrees with an expected one: the one rule of the page.

const ALIKE = 2; // a measured change within this factor of the expected one agrees
const EXACT_DIGITS = 1e-6; // a change below this share of the other one is rounding
const WORDS = {
  agrees: ["✓", "agrees within a factor of two"],
  sign: ["≈", "same sign"],
  opposite: ["✗", "opposite"],
};

/**
 * Return {kind, sign, text}: "agrees within a factor of two", "same sign" or "opposite"; null where one of the changes is missing, nothing or
 * rounding beside the other.
 */
export function agreementOf(expected, measured) {
  if (!Number.isFinite(expected ?? NaN) || !Number.isFinite(measured ?? NaN)) return null;
  const least = EXACT_DIGITS * Math.max(Math.abs(expected), Math.abs(measured));
  if (least === 0 || Math.min(Math.abs(expected), Math.abs(measured)) <= least) return null;
  const ratio = measured / expected;
  const kind = ratio < 0 ? "opposite" : ratio <= ALIKE && ratio >= 1 / ALIKE ? "agrees" : "sign";
  const [sign, text] = WORDS[kind];
  return { kind, sign, text };
}

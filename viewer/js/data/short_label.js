// Short forms of labels, as graphs/labels.py.

const LONGEST = 16; // characters
const MOST_WORDS = 2;
const SPACE = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // as Python's \s
const WORD = new RegExp(`"[^"]*"[^${SPACE}]*|[^${SPACE}]+`, "g");
const END = /[ ,;:.–—-]+$/;
const ENDS_ITEM = /[,;/]$/;
// Words with which explanations begin, and words that say nothing at the end of a short label.
const OPENING = new Set(
  (
    "a an the this these words word terms term tokens token phrases phrase mentions mention references reference related relating " +
    "instances occurrences expressions concepts concept text texts to of in about for and or specific various"
  ).split(" "),
);
const LINKING = new Set("a an the to of in on at by for with and or from as is are that which".split(" "));

/**
 * Return a label that is at most 16 characters long, or two words of it with an ellipsis where others are left out: "references to
 * the days of the week" is "days…week".
 */
export function shortLabel(text) {
  const words = text.match(WORD) ?? [];
  const whole = words.join(" ");
  if ([...whole].length <= LONGEST) return whole;
  const first = Math.max(words.findIndex((word) => !OPENING.has(word.toLowerCase())), 0);
  const kept = tellingWords(words, first).slice(0, MOST_WORDS);
  const last = kept.at(-1) ?? -1;
  const isTorn = kept.length === MOST_WORDS && last > first + 1;
  const short = kept.map((at) => words[at]).join(isTorn ? "…" : " ");
  return last === words.length - 1 ? short : `${short.replace(END, "")}…`;
}

/** Return the places of the words from the first on that say something: items of a list, and those that do not link others. */
function tellingWords(words, first) {
  const isItem = (at) => at === first || ENDS_ITEM.test(words.at(at - 1));
  return words.map((_, at) => at).filter((at) => at >= first && (isItem(at) || !LINKING.has(words[at].toLowerCase())));
}

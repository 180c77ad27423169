// Text of users and tokenizers made visible, as common/visible_text.py: characters that cannot be seen, break a line or turn
// its direction get a sign.

const UNKNOWN = "\ufffd";
const SPACE = "␣";
const SIGNS = new Map([...[..."\n\x0b\x0c\x85\u2028\u2029"].map((character) => [character, "⏎"]), ["\t", "⇥"], ["\r", "␍"]]);
const BIDI_CONTROLS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const WITHOUT_SHAPE = /[\p{Cc}\p{Cs}\p{Cn}]/u;
// Letters, marks and symbols that are not drawn, and format characters that are.
const BLANKS = /[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\u{1d159}\u{e0100}-\u{e01ef}]/u;
const DRAWN_FORMATS = /[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u{110bd}\u{110cd}]/u;
const HIDDEN = /[\p{Co}\p{Cf}]/u;
const UNUSUAL_SPACE = /(?! )\p{Zs}/u;
const PLAIN = /^[!-~]*$/;

/** Return a text with a visible sign for every character that is invisible, breaks a line or turns direction; outer spaces are ␣. */
export function visible(text) {
  if (PLAIN.test(text)) return text;
  const shown = Array.from(text, (character) => (UNUSUAL_SPACE.test(character) ? SPACE : sign(character))).join("");
  const [, lead, inner, trail] = /^( *)([^]*?)( *)$/.exec(shown);
  return SPACE.repeat(lead.length) + (/^\p{Mn}/u.test(inner) ? "◌" : "") + inner + SPACE.repeat(trail.length);
}

/** Return a text in one line: signs for invisible characters, but spaces as they are. */
export function printable(text) {
  return PLAIN.test(text) ? text : Array.from(text, sign).join("");
}

/** Return a text with its line breaks, and signs for other invisible characters. */
export function printableLines(text) {
  return text.split("\n").map(printable).join("\n");
}

/** Return the visible sign of a character, or a visible character and a space as it is. */
function sign(character) {
  if (SIGNS.has(character)) return SIGNS.get(character);
  if (WITHOUT_SHAPE.test(character) || BIDI_CONTROLS.test(character)) return UNKNOWN;
  const isBlank = BLANKS.test(character) || (HIDDEN.test(character) && !DRAWN_FORMATS.test(character));
  return isBlank ? `⟨${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩` : character;
}

"""Text of users and tokenizers made visible: characters that cannot be seen, break a line or turn its direction.

A label that holds such a character would look like another label, cover its neighbours or reorder a line. `visible` is
for pictures and HTML, `quoted` for tables and messages.
"""

import unicodedata

UNKNOWN = "\ufffd"
SPACE, LINE_BREAK = "␣", "⏎"
_SIGNS = {
    **dict.fromkeys("\n\x0b\x0c\x85\u2028\u2029", LINE_BREAK),
    "\t": "⇥",
    "\r": "␍",
}
# Unicode's Bidi_Control characters: overrides would reverse the rest of a line.
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Format characters (category Cf) that are drawn: Unicode's Prepended_Concatenation_Mark.
_DRAWN_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters, marks and symbols that are not drawn: Unicode's Default_Ignorable_Code_Point outside of category Cf, and blanks.
_BLANKS = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # Hangul fillers
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors
        (0x2800, 0x2800),  # Braille blank
        (0x3164, 0x3164),  # Hangul filler
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFFA0, 0xFFA0),  # half-width Hangul filler
        (0x1D159, 0x1D159),  # musical null notehead
        (0xE0100, 0xE01EF),  # variation selectors supplement
    )
    for code in range(first, last + 1)
)


def visible(text: str) -> str:
    """Return a text with a visible sign for every character that is invisible, breaks a line or turns direction.

    Outer spaces, and every other kind of space anywhere, become ␣; line breaks ⏎; tabs ⇥. Invisible characters become
    their code, such as ⟨200B⟩. Control characters, lone surrogates, characters that Unicode does not assign and
    bidirectional controls become �, so that the result is valid in XML. A mark that would join the text before it gets ◌.
    """
    shown = "".join(SPACE if _is_unusual_space(character) else sign(character) for character in text)
    inner = shown.strip(" ")
    lead = len(shown) - len(shown.lstrip(" "))
    joined = "◌" if inner and unicodedata.combining(inner[0]) else ""
    return SPACE * lead + joined + inner + SPACE * (len(shown) - lead - len(inner))


def sign(character: str) -> str:
    """Return the visible sign of a character, or a visible character and a space as it is."""
    if character in _SIGNS:
        return _SIGNS[character]
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Cn") or character in _BIDI_CONTROLS:
        return UNKNOWN
    if _is_blank(character, category):
        return f"⟨{ord(character):04X}⟩"
    return character


def printable(text: str) -> str:
    """Return a text for a terminal: signs for invisible characters, but spaces as they are."""
    return "".join(map(sign, text))


def quoted(text: str) -> str:
    """Return the `repr` of a text, in which characters that `repr` takes for printable but are blank are escaped too."""
    return "".join(_escape(character) if character in _BLANKS else character for character in repr(text))


def _is_blank(character: str, category: str) -> bool:
    """True for characters without ink that are not spaces; private ones have no agreed shape."""
    return character in _BLANKS or category == "Co" or (category == "Cf" and character not in _DRAWN_FORMATS)


def _is_unusual_space(character: str) -> bool:
    return character != " " and unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""Words and classes of tokens, by which automatic labels say what a feature is active on.

The word of a token is its text without outer spaces, in lower case: " The" and "the" are one word. A piece that continues the
token before it, such as "ing" after " walk", is another word than the same letters after a space. Classes are sets of
tokens that have a name, such as digits or prepositions; lists of words are English.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Test = Callable[[str], bool]


class WordClass(NamedTuple):
    """A named set of tokens: `names` are those of its members, `name` that of one, after "after" or "before"."""

    names: str
    name: str
    test: Test
    """Of a token's text without outer spaces."""


def _like(pattern: str) -> Test:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _one_of(words: str) -> Test:
    members = frozenset(words.split())
    return lambda text: text.casefold() in members


def _script(*names: str) -> Test:
    def test(text: str) -> bool:
        if text.isascii():
            return False
        letters = [character for character in text if character.isalpha()]
        return bool(letters) and all(unicodedata.name(letter, "").startswith(names) for letter in letters)

    return test


def _ends_in(ending: str) -> WordClass:
    return WordClass(f"words in -{ending}", f"a word in -{ending}", _like(rf"[^\W\d_]{{2,}}{ending}"))


FUNCTION_NAMES = frozenset(
    [
        *("pronouns", "possessives", "articles", "pointing words", "prepositions", "conjunctions", "question words"),
        *("negations", "modal verbs", "forms of be", "forms of have", "forms of do", "amounts"),
    ]
)
"""Names of the classes whose words do not tell what a text is about."""
CLASSES = (
    WordClass("digits", "a digit", _like(r"\d+")),
    WordClass("capitalised words", "a capitalised word", _like(r"[A-Z][a-z]+")),
    WordClass("capitals", "capitals", _like(r"[A-Z]{2,}")),
    WordClass("single letters", "a single letter", _like(r"[A-Za-z]")),
    *map(
        _ends_in,
        ("ing", "ed", "ly", "s", "tion", "ment", "ness", "ity", "er", "est", "al", "ive", "able", "ous", "ful"),
    ),
    WordClass("ends of sentences", "the end of a sentence", _like(r"""[.!?…]+["'”’)]*""")),
    WordClass("opening brackets", "an opening bracket", _like(r".*[(\[{<]")),
    WordClass("closing brackets", "a closing bracket", _like(r"[)\]}>].*")),
    WordClass("quotation marks", "a quotation mark", _like(r"""["'“”‘’«»`]+""")),
    WordClass("punctuation", "punctuation", _like(r"""[^\w\s]+""")),
    WordClass("line breaks", "a line break", lambda text: "\n" in text),
    WordClass(
        "pronouns", "a pronoun", _one_of("i you he she it we they me him her us them myself yourself himself herself")
    ),
    WordClass(
        "possessives", "a possessive", _one_of("my your his her its our their mine yours hers ours theirs whose")
    ),
    WordClass("articles", "an article", _one_of("the a an")),
    WordClass("pointing words", "a pointing word", _one_of("this that these those such here there")),
    WordClass(
        "prepositions",
        "a preposition",
        _one_of(
            "of in to for on with at by from about into over after under between through during against among within "
            "without upon toward towards across behind beyond near above below along around since until"
        ),
    ),
    WordClass(
        "conjunctions",
        "a conjunction",
        _one_of("and or but nor so yet because although though while whereas if unless when as than whether"),
    ),
    WordClass("question words", "a question word", _one_of("who whom whose what which where when why how")),
    WordClass("negations", "a negation", _one_of("not no never n't nothing none neither nobody nor cannot without")),
    WordClass("modal verbs", "a modal verb", _one_of("can could may might must shall should will would ought cannot")),
    WordClass("forms of be", "a form of be", _one_of("be am is are was were been being 's 're 'm")),
    WordClass("forms of have", "a form of have", _one_of("have has had having 've")),
    WordClass("forms of do", "a form of do", _one_of("do does did done doing")),
    WordClass(
        "words for numbers",
        "a word for a number",
        _one_of(
            "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand "
            "million billion first second third half dozen"
        ),
    ),
    WordClass(
        "amounts", "an amount", _one_of("all any some many much more most few less several each every both enough")
    ),
    WordClass(
        "days", "a day", _one_of("monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday")
    ),
    WordClass(
        "months",
        "a month",
        _one_of("january february march april may june july august september october november december"),
    ),
    WordClass(
        "words of saying", "a word of saying", _one_of("said say says saying asked told tell replied answered cried")
    ),
    WordClass("Cyrillic", "Cyrillic", _script("CYRILLIC")),
    WordClass("Greek", "Greek", _script("GREEK")),
    WordClass("Arabic", "Arabic", _script("ARABIC")),
    WordClass("Hebrew", "Hebrew", _script("HEBREW")),
    WordClass("Chinese or Japanese", "Chinese or Japanese", _script("CJK", "HIRAGANA", "KATAKANA")),
    WordClass("Korean", "Korean", _script("HANGUL")),
    WordClass("Indian scripts", "an Indian script", _script("DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "GUJARATI")),
    WordClass("letters with accents", "letters with accents", _like(r"[^\W\d_]*[À-ÿĀ-ž][^\W\d_]*")),
)


APOSTROPHES = ("'", "’")
MIN_CONTENT_LETTERS = 3
FUNCTION_CLASSES = [each for each in CLASSES if each.names in FUNCTION_NAMES]


def _tells(word: str) -> bool:
    """Return whether a word may tell what a text is about."""
    long = len(word) >= MIN_CONTENT_LETTERS or not word.isascii()
    return long and word.isalpha() and not any(each.test(word) for each in FUNCTION_CLASSES)


class Words:
    """The words of a store's tokens, numbered from 0. `in_text` says which tokens are in its sequences.

    Attributes:
        of_token: number of the word of each of the tokens, in the order of their texts.
        texts: text of each word, as its most frequent token writes it, without outer spaces unless it is nothing else.
        continues: whether each token continues the token before it, if that ends with a letter.
        ends_in_letter: whether the text of each token ends with a letter.
        is_apostrophe: whether each token is an apostrophe.
        content: whether each word tells what a text is about: letters only, and in no class of function words, (words,).
        classes: whether each token is in each of `CLASSES`, (tokens, classes); False for tokens that are not in the text.
    """

    def __init__(self, texts: list[str], counts: np.ndarray, in_text: np.ndarray):
        bare = [text.strip(" ") or text for text in texts]
        folded, self.of_token = np.unique(np.array([text.casefold() for text in bare], object), return_inverse=True)
        self.of_token = self.of_token.astype(np.int32)
        self.texts = [""] * len(folded)
        for token in np.argsort(counts, kind="stable"):  # the last to write a word is the most frequent
            self.texts[self.of_token[token]] = bare[token]
        self.continues = np.array([text[:1].isalpha() for text in texts], np.bool_)
        self.is_apostrophe = np.array([text in APOSTROPHES for text in texts], np.bool_)
        self.content = np.array([_tells(text) for text in self.texts], np.bool_)
        self.ends_in_letter = np.array([text[-1:].isalpha() for text in texts], np.bool_)
        self.classes = np.zeros((len(texts), len(CLASSES)), np.bool_)
        for token in np.flatnonzero(in_text):
            self.classes[token] = [each.test(bare[token]) for each in CLASSES]
        self.classes[:, [each.names == "line breaks" for each in CLASSES].index(True)] |= [
            "\n" in text for text in texts
        ]

    def __len__(self) -> int:
        return len(self.texts)

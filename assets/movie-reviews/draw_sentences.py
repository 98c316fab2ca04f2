"""Draw the balanced subset of rated review sentences that lies beside this script, byte for byte.

    python draw_sentences.py SOURCE            # compare the files here with a fresh draw
    python draw_sentences.py SOURCE --write    # write them

SOURCE is hutto_ICWSM_2014.tar.gz, from additional_resources/ of the source distribution of vaderSentiment 3.3.2:

    pip download --no-deps --no-binary vaderSentiment vaderSentiment==3.3.2

Needs nothing but Python. A sentence is positive where the mean of its ratings is above zero and negative where it is
below; those whose mean is zero, and repetitions of a sentence, are left out. Within each label the sentences are
ordered by sha256("whence-1:KIND:ID") and the first ones are taken, so the draw depends on no library's random numbers.
The rows that are kept stay in upstream order.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

SEED = "whence-1"
# File, kind of review, rows of each label; what is drawn for one file of a kind is not drawn again for the next.
DRAWN = (("train", "movie", 3000), ("test-movie", "movie", 1000), ("test-amazon", "amazon", 1000))
HEADER = "id\tlabel\traters\tother\ttext\n"
UPSTREAM = {
    "amazonReviewSnippets_GroundTruth.txt": "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
    "amazonReviewSnippets_anonDataRatings.txt": "d7d909adab91e0b4d5084251fc825f15baff66277c52eaa705b40fc464fa274b",
    "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    "movieReviewSnippets_anonDataRatings.txt": "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4",
}


@dataclass(frozen=True)
class Sentence:
    """A sentence and how it was rated: `other` of its `raters` gave a rating of the opposite sign to the mean's."""

    id: str
    label: int
    raters: int
    other: int
    text: str

    def line(self) -> str:
        return f"{self.id}\t{self.label}\t{self.raters}\t{self.other}\t{self.text}\n"


def read_upstream(source: Path, name: str) -> list[list[str]]:
    """The tab-separated fields of every line."""
    with tarfile.open(source) as archive:
        member = archive.extractfile(f"hutto_ICWSM_2014/{name}")
        if member is None:
            sys.exit(f"{source} does not hold {name}.")
        data = member.read()
    found = hashlib.sha256(data).hexdigest()
    if found != UPSTREAM[name]:
        sys.exit(f"{name} is not the published file: expected sha256 {UPSTREAM[name]}, found {found}.")
    return [line.rstrip("\r").split("\t") for line in data.decode("utf-8-sig").split("\n") if line.strip()]


def sentences(source: Path, kind: str) -> list[Sentence]:
    """Every sentence of a kind that has a side, each text once, in upstream order."""
    ratings = {
        id_: json.loads(raw) for id_, _, _, raw in read_upstream(source, f"{kind}ReviewSnippets_anonDataRatings.txt")
    }
    found: dict[str, Sentence] = {}
    for id_, mean, text in read_upstream(source, f"{kind}ReviewSnippets_GroundTruth.txt"):
        text, sign = " ".join(text.split()), (float(mean) > 0) - (float(mean) < 0)
        if sign and text and text not in found:
            other = sum(rating * sign < 0 for rating in ratings[id_])
            found[text] = Sentence(id_, int(sign > 0), len(ratings[id_]), other, text)
    return list(found.values())


def draw(source: Path) -> dict[str, str]:
    """The text of every file, by name."""
    kinds = {kind: sentences(source, kind) for _, kind, _ in DRAWN}
    files = {}
    for name, kind, per_label in DRAWN:
        taken: set[str] = set()
        for label in (0, 1):
            rows = [each for each in kinds[kind] if each.label == label]
            rows.sort(key=lambda each: hashlib.sha256(f"{SEED}:{kind}:{each.id}".encode()).digest())
            taken |= {each.id for each in rows[:per_label]}
        files[f"{name}.tsv.gz"] = HEADER + "".join(each.line() for each in kinds[kind] if each.id in taken)
        kinds[kind] = [each for each in kinds[kind] if each.id not in taken]
    return files


def pack(text: str) -> bytes:
    """Gzip with no name and no time in the header, so that the same data always gives the same file."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(text.encode())
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the subset of review sentences, or check the one that is here.")
    parser.add_argument("source", type=Path, help="hutto_ICWSM_2014.tar.gz")
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="default: beside this script")
    args = parser.parse_args()

    different = 0
    for name, text in draw(args.source).items():
        path, packed = args.out / name, pack(text)
        if args.write:
            path.write_bytes(packed)
            print(f"{hashlib.sha256(packed).hexdigest()}  {name}")
        elif not path.is_file():
            different += 1
            print(f"missing    {name}")
        elif path.read_bytes() == packed:
            print(f"identical  {name}")
        elif gzip.decompress(path.read_bytes()).decode() == text:
            print(f"identical  {name} once unpacked (this Python packs with another zlib)")
        else:
            different += 1
            print(f"DIFFERENT  {name}")
    if different:
        sys.exit(f"{different} of the files here are not what {Path(__file__).name} draws.")


if __name__ == "__main__":
    main()

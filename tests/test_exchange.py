"""Decisions and suspects on their way to other tools and back: what is written comes back, or is refused whole."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attribution import audit, exchange, pipeline
from attribution.answers import Item, Suspect
from attribution.decisions import Decision, Event, decide, in_force, outcomes
from attribution.errors import InvalidInput, StoreError
from attribution.examples import Examples, Preview
from attribution.exchange import claims, gathering, label_studio, places, reading, rows, tables
from attribution.exchange.claims import Checked
from attribution.exchange.rows import Chosen
from attribution.flags import Flags
from attribution.loading import LoadedExamples
from attribution.workspace import Workspace
from tests import disk

HOSTILE = ("=cmd|' /C calc'!A0", '<b onclick="x">&amp;', "a;b,c\td", "  spaces  ", "naïve 猫 \U0001f600", "'=1", "-1")
FORMATS = ("csv", "cleanlab", "json", "label-studio", "fiftyone")


# --- a small world: six examples, hostile class names, no model -------------------------------------------------------


class Loaded:
    """What an export asks of loaded examples."""

    is_number = False

    def __init__(self, shown: str = "image") -> None:
        labels, ids = np.array([0, 1, 2, 3, 4, 5]), tuple(f"train:{i}" for i in range(6))
        hashes = tuple(f"{i:016x}" for i in range(6))
        self.train = Examples("train", ids, labels, labels, hashes, HOSTILE)
        self.test = Examples("test", ("../=t", "t,2"), np.array([0, 1]), np.array([0, 1]), ("aa", "bb"), HOSTILE)
        self.shown = shown

    def preview(self, split: str, i: int) -> Preview:
        if self.shown == "image":
            return Preview("image", image=f"picture {split} {i}".encode(), mime="image/png")
        if self.shown == "text":
            return Preview("text", text=f'<script>{i}</script> "=1"')
        return Preview("row", row={"a <b>": str(i), "c": "=1"})

    @property
    def splits(self) -> tuple[Examples, Examples]:
        return self.train, self.test


def suspect(loaded: Loaded, i: int, doubt: float = 2.0) -> Suspect:
    label = int(loaded.train.labels[i])
    item = Item(
        id=loaded.train.ids[i], split="train", position=i, label=label, truth=None, predicted=(label + 1) % 7,
        probabilities=np.full(7, 1 / 7, np.float32), loss=1.5, margin=-0.5,
    )  # fmt: skip
    signals = {"loss": 1.5, "margin": float("-inf")}
    return Suspect(item, i + 1, doubt, (label + 1) % 7, signals, 2, ("train:5",), "It <looks> wrong.")


def chosen(loaded: Loaded, events: Sequence[Event], **options: Any) -> Chosen:
    provenance = {"project": "p", "data": "d" * 16, "run": "r" * 12, "index": "i" * 12, "written": "now"}
    return rows.choose(cast(LoadedExamples, loaded), events, provenance, **options)


@pytest.fixture
def flags(tmp_path: Path) -> Flags:
    return Flags.open(tmp_path / "flags.sqlite")


def put(flags: Flags, loaded: Loaded, *, note: str = '=1+1; "so"\nit <is>') -> tuple[Event, ...]:
    """A decided, a disputed, a settled, a bad, and an open example."""
    said: list[tuple[str, str, str, dict[str, Any]]] = [
        ("train:0", "relabel", "Ada", {"label": 1, "note": note, "why": {"signals": {"loss": 2.5}, "reason": "=why"}}),
        ("train:1", "relabel", "Ada", {"label": 0}),
        ("train:1", "keep", "@Ben", {"note": "'tis"}),
        ("train:2", "keep", "Ada", {}),
        ("train:2", "bad", "@Ben", {"settles": True}),
        ("train:3", "bad", "Ada", {}),
        ("../=t", "skip", "Ada", {}),
    ]
    return flags.append_all([decide(loaded.splits, id_, verdict, who=who, **more) for id_, verdict, who, more in said])


def said(event: Event | Decision) -> tuple[Any, ...]:
    """What must come back from anywhere."""
    return (event.example, event.verdict, event.label_name, event.who, event.note, event.settles, event.given)


def checked(path: Path, loaded: Loaded, events: Sequence[Event] = (), by: str | None = "Zoe") -> Checked:
    return claims.check(exchange.read(path), loaded.splits, events, by=by, data="d" * 16)


def lines_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns."""
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# --- CSV --------------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.sampled_from("'=+-@＝\t\r\n a1") | st.characters(exclude_categories=["Cs"])))
@example("'=1")
@example("''")
def test_a_defused_cell_is_no_formula_and_comes_back(text: str) -> None:
    assert tables.armed(tables.defused(text)) == text
    assert not tables.defused(text).startswith(tuple("=+-@\t\r\n＝＋－＠"))


def as_it_is(raw: bytes) -> bytes:
    return raw


def as_excel_saves_it(raw: bytes, delimiter: str = ";", encoding: str = "utf-8-sig") -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    return out.getvalue().encode(encoding)


def as_unicode_text(raw: bytes) -> bytes:
    return as_excel_saves_it(raw, "\t", "utf-16")


def with_its_hint(raw: bytes) -> bytes:
    return b"sep=;\r\n" + as_excel_saves_it(raw, encoding="utf-8")


TEXT = st.text(
    alphabet=st.sampled_from("=+-@'\",;\n\t<>& \ufeff\u202eé猫") | st.characters(exclude_categories=["Cs", "Cc"]),
    max_size=30,
)
NAME = TEXT.map(lambda text: "".join(c for c in text if c.isprintable())).filter(lambda text: text.strip() != "")


@pytest.mark.parametrize("saved", [as_it_is, as_excel_saves_it, as_unicode_text, with_its_hint])
@given(data=st.data())
def test_decisions_come_back_from_a_csv(
    tmp_path_factory: pytest.TempPathFactory, saved: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    loaded, folder = Loaded(), tmp_path_factory.mktemp("csv")
    made = {}
    for _ in range(data.draw(st.integers(1, 5))):
        part = data.draw(st.sampled_from(loaded.splits))
        id_ = data.draw(st.sampled_from(part.ids))
        verdict = data.draw(st.sampled_from(["relabel", "keep", "bad", "skip", "flag"]))
        given_ = int(part.labels[part.positions[id_]])
        label = data.draw(st.sampled_from([k for k in range(7) if k != given_])) if verdict == "relabel" else None
        why = data.draw(st.dictionaries(TEXT, TEXT, max_size=2).filter(lambda why: "imported" not in why))
        settles = verdict in ("relabel", "keep", "bad") and data.draw(st.booleans())
        who, note = data.draw(NAME), data.draw(TEXT)
        decision = decide([part], id_, verdict, who=who, label=label, note=note, why=why, settles=settles)
        made[id_, decision.who] = decision
    recorded = Flags.open(folder / "flags.sqlite")
    events = recorded.append_all(list(made.values()))
    recorded.close()
    exchange.write("csv", chosen(loaded, events), folder / "out.csv")
    (folder / "out.csv").write_bytes(saved((folder / "out.csv").read_bytes()))
    found = checked(folder / "out.csv", loaded)
    assert found.problems == ()
    assert sorted(map(said, found.decisions)) == sorted(map(said, events))
    whys = {(each.example, each.who): dict(each.why) for each in found.decisions}
    for event in events:
        reasons = whys[event.example, event.who]
        assert reasons.pop("imported")["from"] == "out.csv"
        assert reasons == event.why


@pytest.mark.parametrize("format_", ["csv", "cleanlab"])
def test_no_cell_of_a_table_is_a_formula(tmp_path: Path, flags: Flags, format_: str) -> None:
    loaded = Loaded()
    every = [suspect(loaded, i) for i in range(6)]
    whole = rows.Whole(np.arange(6), 2) if format_ == "cleanlab" else None
    exchange.write(format_, chosen(loaded, put(flags, loaded), suspects=every, whole=whole), tmp_path / "out.csv")
    cells = [cell for row in lines_of(tmp_path / "out.csv") for cell in row.values()]
    assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r"))] == []
    assert any(cell.startswith("'=") for cell in cells)


def test_a_suspect_that_nobody_judged_is_a_row_to_be_filled_in(tmp_path: Path) -> None:
    loaded, out = Loaded(), tmp_path / "work.csv"
    exchange.write("csv", chosen(loaded, (), suspects=[suspect(loaded, 4), suspect(loaded, 5)]), out)
    first, second = lines_of(out)
    assert (first["id"], first["suggested_label"], first["reason"]) == ("train:4", "''=1", "It <looks> wrong.")
    assert (first["decision"], first["data_hash"], json.loads(first["signals"])) == ("", "d" * 16, {"loss": 1.5})
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows([first | {"new_label": "''=1"}, second])
    found = checked(out, loaded)
    assert [said(each) for each in found.decisions] == [("train:4", "relabel", "'=1", "Zoe", "", False, HOSTILE[4])]
    assert found.blank == 1


def test_a_label_alone_relabels_or_keeps(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv", "ID, Label", 'train:0,"<b onclick=""x"">&amp;"', "train:6,", "train:4 ,naïve 猫 \U0001f600"
    )
    found = checked(path, Loaded())
    assert [(each.example, each.verdict, each.label) for each in found.decisions] == [
        ("train:0", "relabel", 1),
        ("train:4", "keep", None),
    ]


# --- what is refused --------------------------------------------------------------------------------------------------

GOOD = "train:3,keep,,Ada,,,"
HEADER = "id,decision,new_label,who,note,content_hash,given_label,data_hash"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train:99,keep,,,,,", "row 3: There is no example “train:99” in the data."),
        (",keep,,,,,", "row 3: It has no id."),
        ("train:1,relabel,cat,,,,", "row 3: “cat” is no class."),
        ("train:1,relabel,,,,,", "row 3: The verdict is relabel and the new label not given."),
        ("train:1,keep,'-1,,,,", "row 3: The decision is keep and the new label “-1”."),
        ('train:1,relabel,"<b onclick=""x"">&amp;",,,,', 'row 3: train:1 is labelled “<b onclick="x">&amp;” already.'),
        ("train:1,maybe,,,,,", "row 3: “maybe” is no verdict."),
        ("train:3,bad,,Ada,,,", "row 3: train:3 by Ada is in row 2 already."),
        (GOOD, "row 3: train:3 by Ada is in row 2 already."),
        ("train:1,keep,,,,ffff,", "row 3: The content of train:1 has changed since: ffff then, 0000000000000001 now."),
        ("train:1,keep,,,,,cat", 'row 3: train:1 was labelled “cat” then and is labelled “<b onclick="x">&amp;” now.'),
        ("train:1,keep,,,,,,other", f"row 3: train:1 is of other data: other then, {'d' * 16} now."),
        ("train:1,keep,,,,,,,,more", "row 3: It has 10 cells, and the header 8."),
        ("train:1,keep,,a\u200bb,,,", "row 3: The reviewer's name 'a\\u200bb' has characters that cannot be seen."),
        ("train:1,keep,,,\x1b[2J,,", "row 3: The note '\\x1b[2J' has characters that are no text."),
    ],
)
def test_a_row_that_cannot_be_taken_over_is_told_with_its_number(tmp_path: Path, line: str, says: str) -> None:
    found = checked(table(tmp_path / "t.csv", HEADER, GOOD, line, ",,,,,,"), Loaded())
    assert [str(problem) for problem in found.problems] == [says]
    assert [each.example for each in found.decisions] == ["train:3"]
    with pytest.raises(InvalidInput, match=r"1 of 2 rows of t\.csv cannot be taken over\. row 3: .*--skip-bad"):
        found.refuse_problems()


def test_the_first_ten_problems_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    found = checked(table(tmp_path / "t.csv", "id,label", *(f"gone:{i},x" for i in range(25))), Loaded())
    with pytest.raises(InvalidInput) as raised:
        found.refuse_problems()
    assert raised.value.message.startswith("25 of 25 rows of t.csv cannot be taken over. row 2: ")
    assert "row 11: There is no example “gone:9”" in raised.value.message
    assert "row 12" not in raised.value.message
    assert raised.value.message.endswith("… and 15 more.")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"has the columns of an empty file, but needs id"),
        (b"name;label\nx;y\n", r"has the columns name, label, but needs id, and decision or new_label"),
        (b"id,label,id\n", r"Two columns are called id"),
        (b"id,label\n", r"has no decisions in it"),
        (b'id,label\ntrain:1,"cut', r"cannot be read as csv\. Line 2 cannot be read as CSV: unexpected end of data"),
        ("id,label\ntrain:1,é\n".encode("latin-1"), r"is no text in UTF-8: byte 17 does not belong there"),
        (b'[{"data": ', r"cannot be read as label-studio\. It is no whole JSON file"),
        (b"[" * 100_000, r"It is no whole JSON file"),
        (b"[1]", r"It is no list of tasks"),
        (b'{"a": 1}', r"It is no export of decisions by Whence"),
        (b'{"whence": "decisions", "schema": 2, "events": []}', r"has schema 2; this version reads up to 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises((InvalidInput, StoreError), match=says):
        exchange.read(tmp_path / "file")


def test_a_file_that_is_absent_or_huge_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r"There is no file .*gone"):
        exchange.read(tmp_path / "gone")
    with pytest.raises(InvalidInput, match="There is no file"):
        exchange.read(tmp_path)
    monkeypatch.setattr(reading, "LARGEST", 2**20)
    (tmp_path / "huge").write_bytes(b"x" * (3 * 2**20))
    with pytest.raises(InvalidInput, match=r"huge has 3 MB; files of up to 1 MB are read\. Split it"):
        exchange.read(tmp_path / "huge")


# --- again, and back where it came from -------------------------------------------------------------------------------


def write_for_import(format_: str, found: Chosen, folder: Path) -> Path:
    """Export, and the file of it that is imported."""
    exchange.write(format_, found, folder / "out")
    return folder / "out" / "tasks.json" if format_ == "label-studio" else folder / "out"


@pytest.mark.parametrize("format_", ["csv", "json", "label-studio"])
def test_an_export_tells_another_workspace_the_same_decisions(tmp_path: Path, flags: Flags, format_: str) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    path = write_for_import(format_, chosen(loaded, events, suspects=[suspect(loaded, 5)]), tmp_path)
    other = Flags.open(tmp_path / "other.sqlite")
    found = checked(path, loaded)
    found.refuse_problems()
    claims.record(other, found)
    theirs, ours = outcomes(other.events(), loaded.splits), outcomes(events, loaded.splits)
    assert {id_: (o.state, [said(e) for e in o.opinions]) for id_, o in theirs.items()} == {
        id_: (o.state, [said(e) for e in o.opinions]) for id_, o in ours.items()
    }
    for event in other.events():
        assert event.why["imported"]["from"] == path.name
    first = next(event for event in other.events() if event.example == "train:0")
    assert first.why["signals"] == {"loss": 2.5}
    assert first.why["imported"]["when"] == events[0].when


@pytest.mark.parametrize("format_", ["csv", "json", "label-studio"])
def test_an_export_read_by_its_own_workspace_is_nothing_new(tmp_path: Path, flags: Flags, format_: str) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    found = checked(write_for_import(format_, chosen(loaded, events), tmp_path), loaded, events)
    assert (found.decisions, found.known, found.problems) == ((), 7, ())


@pytest.mark.parametrize("format_", ["csv", "json", "label-studio"])
def test_a_file_read_twice_records_nothing_new_whatever_happened_since(
    tmp_path: Path, flags: Flags, format_: str
) -> None:
    loaded = Loaded()
    path = write_for_import(format_, chosen(loaded, put(flags, loaded)), tmp_path)
    other = Flags.open(tmp_path / "other.sqlite")
    first = claims.record(other, checked(path, loaded))
    other.undo(first[0].number, who="Ada")
    other.append(decide(loaded.splits, "train:3", "keep", who="Ada"))
    before = other.events()
    renamed = path.rename(path.with_name("renamed"))
    found = checked(renamed, loaded, before)
    assert (found.decisions, found.undos, found.known) == ((), (), 7)
    assert claims.record(other, found) == ()
    assert other.events() == before


def test_json_has_every_event_and_brings_undos_back(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    undo = flags.undo(events[0].number, who="Ada", note="no")
    flags.undo(undo.number, who="Ada")
    flags.undo(events[1].number, who="Ada")
    path = write_for_import("json", chosen(loaded, flags.events()), tmp_path)
    value = json.loads(path.read_text())
    assert (value["schema"], [event["number"] for event in value["events"]]) == (1, list(range(1, 11)))
    other = Flags.open(tmp_path / "other.sqlite")
    claims.record(other, checked(path, loaded))
    assert [said(e) for e in in_force(other.events())] == [said(e) for e in in_force(flags.events())]
    again = checked(path, loaded, other.events())
    assert (again.decisions, again.undos, again.known) == ((), (), 10)


def test_an_event_that_is_recorded_is_known_also_where_the_data_has_changed_since(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    path = write_for_import("json", chosen(loaded, events), tmp_path)
    loaded.train = replace(loaded.train, hashes=("ffff",) * 6)
    found = checked(path, loaded, events)
    assert (found.decisions, found.known, found.problems) == ((), 7, ())
    assert len(checked(path, loaded).problems) == 6


def test_an_undo_without_its_event_or_of_somebody_else_is_told(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    flags.undo(events[0].number, who="Ada")
    flags.undo(events[1].number, who="Ada")
    path = write_for_import("json", chosen(loaded, flags.events()), tmp_path)
    value = json.loads(path.read_text())
    value["events"][0]["content"] = "ffff"
    value["events"][8]["who"] = "Ben"
    value["events"][3]["key"] = 5
    path.write_text(json.dumps(value))
    assert [str(problem) for problem in checked(path, loaded).problems] == [
        "event 1: The content of train:0 has changed since: ffff then, 0000000000000000 now.",
        "event 4: Its key is missing, or not of the kind that it should be.",
        "event 8: What it takes back is neither recorded nor taken over.",
        "event 9: It takes back what Ada decided.",
    ]


@pytest.mark.parametrize("state", ["decided", "disputed", "open"])
def test_a_state_chooses_the_rows(tmp_path: Path, flags: Flags, state: str) -> None:
    loaded = Loaded()
    found = chosen(loaded, put(flags, loaded), state=state, suspects=[suspect(loaded, 5), suspect(loaded, 0)])
    ids = {"decided": ["train:0", "train:2", "train:3"], "disputed": ["train:1"], "open": ["train:5", "../=t"]}
    assert [row.example for row in found.rows] == ids[state]
    assert {event.example for event in found.events} <= set(ids[state])


# --- Label Studio -----------------------------------------------------------------------------------------------------


def tasks_of(folder: Path) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], json.loads((folder / "tasks.json").read_text(encoding="utf-8")))


def test_the_pictures_of_tasks_are_the_previews(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    exchange.write("label-studio", chosen(loaded, events), tmp_path / "inline")
    exchange.write("label-studio", chosen(loaded, events, images="folder"), tmp_path / "in a folder")
    for inline, served in zip(tasks_of(tmp_path / "inline"), tasks_of(tmp_path / "in a folder"), strict=True):
        id_ = inline["data"]["item_id"]
        part = next(part for part in loaded.splits if id_ in part.positions)
        picture = loaded.preview(part.split, part.positions[id_]).image
        head, _, tail = inline["data"]["image"].partition(",")
        assert (head, base64.b64decode(tail)) == ("data:image/png;base64", picture)
        prefix, _, name = served["data"]["image"].rpartition("/")
        assert prefix == "/data/local-files/?d=in%20a%20folder/images"
        assert (tmp_path / "in a folder" / "images" / name).read_bytes() == picture
    assert "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT" in (tmp_path / "in a folder" / "README.txt").read_text()


def test_a_task_carries_the_suggestion_the_reason_and_what_it_rests_on(tmp_path: Path) -> None:
    loaded = Loaded()
    exchange.write("label-studio", chosen(loaded, (), suspects=[suspect(loaded, 1, doubt=np.log(3))]), tmp_path / "out")
    (task,) = tasks_of(tmp_path / "out")
    assert task["predictions"][0]["score"] == 0.75
    assert task["predictions"][0]["result"][0]["value"] == {"choices": [HOSTILE[2]]}
    assert task["meta"]["reason"] == "It <looks> wrong."
    assert task["meta"]["made_from"] == {
        "project": "p", "data": "d" * 16, "run": "r" * 12, "index": "i" * 12, "written": "now"
    }  # fmt: skip
    assert task["annotations"] == []


@pytest.mark.parametrize(("shown", "tag"), [("image", "Image"), ("text", "Text"), ("row", "Table")])
def test_every_kind_of_data_has_tasks_and_a_config_that_names_all_classes(
    tmp_path: Path, flags: Flags, shown: str, tag: str
) -> None:
    loaded = Loaded(shown)
    exchange.write("label-studio", chosen(loaded, put(flags, loaded)), tmp_path / "out")
    view = ET.parse(tmp_path / "out" / "config.xml").getroot()
    assert [each.get("value") for each in view.iterfind("Choices[@name='label']/Choice")] == list(HOSTILE)
    shows = view.find(tag)
    assert shows is not None
    assert (shows.get("name"), shows.get("value")) == ("example", f"${shown}")
    first = tasks_of(tmp_path / "out")[0]["data"][shown]
    preview = loaded.preview("train", 0)
    assert first == {"text": preview.text, "row": preview.row}.get(shown, first)


def test_a_class_that_xml_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"The class 'a\\x0c' has characters that XML cannot hold"):
        label_studio.config("image", ["a\f"])


def annotated(loaded: Loaded, i: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    data = {
        "image": "x",
        "item_id": loaded.train.ids[i],
        "given_label": HOSTILE[i],
        "content_hash": loaded.train.hashes[i],
    }
    return {"id": 700 + i, "data": data, "annotations": list(annotations), "predictions": [], "meta": {}}


def annotation(*results: tuple[str, Any], **more: Any) -> dict[str, Any]:
    found = [
        {"from_name": tag, "to_name": "example", "type": "textarea" if tag == "note" else "choices",
         "value": {"text": value} if tag == "note" else {"choices": value}}
        for tag, value in results
    ]  # fmt: skip
    return {"id": 1, "result": found, "was_cancelled": False, "updated_at": "2026-01-02T03:04:05Z", **more}


def test_what_annotators_say_becomes_their_decisions(tmp_path: Path) -> None:
    loaded, path = Loaded(), tmp_path / "export.json"
    eve = {"id": 4, "email": "eve@example.org", "first_name": "Eve"}
    value = [
        annotated(loaded, 0, annotation(("label", [HOSTILE[1]]), ("note", ["two", "lines"]), completed_by=eve)),
        annotated(
            loaded, 1,
            annotation(("label", [HOSTILE[1]]), completed_by={"id": 5, "first_name": "Jo", "last_name": "Lee"}),
            annotation(("verdict", ["bad"]), completed_by=7),
        ),
        annotated(loaded, 2, annotation(was_cancelled=True)),
        annotated(loaded, 3),
        annotated(loaded, 4, annotation()),
    ]  # fmt: skip
    path.write_text(json.dumps(value))
    found = checked(path, loaded)
    assert [said(each)[:5] for each in found.decisions] == [
        ("train:0", "relabel", HOSTILE[1], "eve@example.org", "two\nlines"),
        ("train:1", "keep", "", "Jo Lee", ""),
        ("train:1", "bad", "", "Label Studio annotator 7", ""),
        ("train:2", "skip", "", "Zoe", ""),
    ]
    assert (found.blank, found.problems) == (1, ())
    assert found.decisions[0].why["imported"]["when"] == "2026-01-02T03:04:05Z"


def test_json_min_is_read_too(tmp_path: Path) -> None:
    loaded, path = Loaded(), tmp_path / "min.json"
    data = annotated(loaded, 0)["data"]
    records = [
        data | {"id": 1, "label": HOSTILE[2], "annotator": "eve@example.org", "annotation_id": 9, "note": "so"},
        data
        | {
            "id": 2,
            "item_id": "train:1",
            "given_label": HOSTILE[1],
            "content_hash": "",
            "annotator": 3,
            "verdict": "bad",
        },
        data | {"id": 3, "item_id": "train:0", "label": {"choices": HOSTILE[:2]}, "annotator": 3},
        {"id": 4, "label": "x"},
        data | {"id": 5, "item_id": "train:2", "label": "x", "annotator": 3, "came_with": 1},
    ]
    path.write_text(json.dumps(records))
    found = checked(path, loaded)
    assert [said(each)[:5] for each in found.decisions] == [
        ("train:0", "relabel", HOSTILE[2], "eve@example.org", "so"),
        ("train:1", "bad", "", "Label Studio annotator 3", ""),
    ]
    assert [str(problem) for problem in found.problems] == [
        "record 3: It cannot be read: ValueError label has 2 choices.",
        "record 4: It has no item_id: it is of no export of ours.",
        f"record 5: {claims.MIXED}",
    ]


def test_label_studios_own_table_is_read_too(tmp_path: Path) -> None:
    found = checked(
        table(
            tmp_path / "result.csv",
            "annotation_id,annotator,came_with,id,item_id,label,note,verdict",
            "9,eve@example.org,0,1,train:0,spaces,so,",  # a browser has trimmed the name of the class
            "9,3,0,2,train:1,,'=1,bad",
            "9,3,2,3,train:2,,,bad",
        ),
        Loaded(),
    )
    assert [said(each)[:5] for each in found.decisions] == [
        ("train:0", "relabel", "  spaces  ", "eve@example.org", "so"),
        ("train:1", "bad", "", "3", "'=1"),  # as it stands: that table has no apostrophes of ours
    ]
    assert [str(problem) for problem in found.problems] == [f"row 4: {claims.MIXED}"]


def test_an_annotation_of_ours_that_somebody_changed_is_theirs(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    events = put(flags, loaded)
    path = write_for_import("label-studio", chosen(loaded, events), tmp_path)
    value = json.loads(path.read_text())
    assert value[0]["annotations"][0]["result"][0]["meta"]["whence"]["who"] == "Ada"
    for task in value:  # Label Studio says of all that whoever imported them made them
        for each in task["annotations"]:
            each["completed_by"] = 1
    value[0]["annotations"][0]["result"][0]["value"]["choices"] = [HOSTILE[3]]
    path.write_text(json.dumps(value))
    found = checked(path, loaded, events)
    assert [said(each)[:4] for each in found.decisions] == [
        ("train:0", "relabel", HOSTILE[3], "Label Studio annotator 1")
    ]
    assert found.known == 6


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (annotation(("label", ["x", "y"])), "task 1: Its annotation cannot be read: ValueError label has 2 choices."),
        (annotation(("label", [HOSTILE[1]]), ("verdict", ["bad"])), "and the verdict bad: one of them is too many."),
        ({"id": 1}, "task 1: Its annotation cannot be read: KeyError 'result'."),
        (annotation(("label", [5])), "ValueError label is 5"),
        ({"id": 1, "result": [5]}, "Its annotation cannot be read: AttributeError"),
    ],
)
def test_an_annotation_that_says_nothing_clear_is_told(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps([annotated(Loaded(), 0, wrong)]))
    (problem,) = checked(path, Loaded()).problems
    assert says in str(problem)


@pytest.mark.parametrize("shown", ["image", "text", "row"])
def test_label_studio_reads_what_we_write(tmp_path: Path, flags: Flags, shown: str) -> None:
    """Its own SDK accepts config, predictions and annotations, and what its converter exports comes back."""
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    converter = pytest.importorskip("label_studio_sdk.converter")
    loaded = Loaded(shown)
    events = put(flags, loaded)
    exchange.write("label-studio", chosen(loaded, events, suspects=[suspect(loaded, 5)]), tmp_path / "out")
    config = (tmp_path / "out" / "config.xml").read_text(encoding="utf-8")
    read = interface.LabelInterface(config)
    read.validate()
    tasks = tasks_of(tmp_path / "out")
    for number, task in enumerate(tasks, 1):
        assert read.validate_task({"data": task["data"]})
        for each in (*task["predictions"], *task["annotations"]):
            assert read.validate_prediction(each, return_errors=True) == []
        if not task["annotations"]:
            task["annotations"] = [annotation(("label", [HOSTILE[2]]), ("note", ["so"]))]
        task["id"] = number
        for j, each in enumerate(task["annotations"]):
            each |= {"id": j, "completed_by": {"id": j, "email": f"{j}@x.org"}, "created_at": "", "updated_at": ""}
    (tmp_path / "full.json").write_text(json.dumps(tasks))
    found = checked(tmp_path / "full.json", loaded, events)
    expected = [("train:5", "relabel", HOSTILE[2], "0@x.org", "so")]
    assert (found.known, [said(each)[:5] for each in found.decisions]) == (7, expected)
    for format_, name in (("JSON_MIN", "result.json"), ("CSV", "result.csv")):
        converted = converter.Converter(config, project_dir=None)
        converted.convert(tmp_path / "full.json", tmp_path / format_, format_, is_dir=False)
        found = checked(tmp_path / format_ / name, loaded)
        assert [said(each)[:5] for each in found.decisions] == expected
        assert [problem.sentence for problem in found.problems] == [claims.MIXED] * 7


# --- FiftyOne ---------------------------------------------------------------------------------------------------------


def test_fiftyone_has_pictures_labels_tags_and_scores(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    exchange.write("fiftyone", chosen(loaded, put(flags, loaded), suspects=[suspect(loaded, 0)]), tmp_path / "out")
    samples = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    first = samples[0]
    assert (tmp_path / "out" / first["filepath"]).read_bytes() == loaded.preview("train", 0).image
    assert first["ground_truth"] == {"_cls": "Classification", "label": HOSTILE[0]}
    assert (first["suggested"]["label"], first["decided"]["label"]) == (HOSTILE[1], HOSTILE[1])
    assert first["tags"] == ["train", "decided", "relabel"]
    assert (first["doubt"], first["signal_loss"], first["reason"]) == (2.0, 1.5, "It <looks> wrong.")
    assert [sample["item_id"] for sample in samples] == ["train:0", "train:1", "train:2", "train:3", "../=t"]
    info = json.loads((tmp_path / "out" / "metadata.json").read_text())["info"]
    assert (info["classes"], info["made_from"]["run"]) == (list(HOSTILE), "r" * 12)


@pytest.mark.parametrize(("shown", "what"), [("text", "texts"), ("row", "table rows")])
def test_fiftyone_shows_nothing_but_pictures(tmp_path: Path, flags: Flags, shown: str, what: str) -> None:
    loaded = Loaded(shown)
    with pytest.raises(InvalidInput, match=f"FiftyOne shows pictures, and these are {what}"):
        exchange.write("fiftyone", chosen(loaded, put(flags, loaded)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fiftyone_reads_what_we_write(tmp_path: Path, flags: Flags) -> None:
    """Its own importer, as `Dataset.from_dir` takes it, without the database behind it."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    loaded = Loaded()
    exchange.write("fiftyone", chosen(loaded, put(flags, loaded), suspects=[suspect(loaded, 0)]), tmp_path / "out")
    importer = importers._handle_legacy_formats(importers.FiftyOneDatasetImporter(str(tmp_path / "out")))
    with importer:
        samples = list(importer)
        info = importer.get_dataset_info()
    assert info["classes"] == list(HOSTILE)
    assert [sample.item_id for sample in samples] == ["train:0", "train:1", "train:2", "train:3", "../=t"]
    assert samples[0].ground_truth.label == HOSTILE[0]
    assert samples[0].suggested.label == HOSTILE[1]
    assert (samples[0].doubt, samples[0].tags) == (2.0, ["train", "decided", "relabel"])
    for sample in samples:
        part = next(part for part in loaded.splits if sample.item_id in part.positions)
        picture = loaded.preview(part.split, part.positions[sample.item_id]).image
        assert Path(sample.filepath).read_bytes() == picture


# --- cleanlab ---------------------------------------------------------------------------------------------------------


def whole(loaded: Loaded, events: Sequence[Event], first: int) -> Chosen:
    every = [suspect(loaded, i, doubt=3.0 - i) for i in range(6)]
    return chosen(loaded, events, suspects=every, whole=rows.Whole(np.array([1, 1, 2, 3, 4, 5]), first))


@pytest.mark.parametrize(("first", "issues"), [(0, 3), (2, 2)])
def test_the_cleanlab_table_has_a_row_for_each_training_example(
    tmp_path: Path, flags: Flags, first: int, issues: int
) -> None:
    loaded = Loaded()
    exchange.write("cleanlab", whole(loaded, put(flags, loaded), first), tmp_path / "out.csv")
    found = lines_of(tmp_path / "out.csv")
    assert [row["index"] for row in found] == list("012345")
    assert [row["given_label"] for row in found] == list("012345")
    assert found[0]["predicted_label"] == "1"
    quality = [float(row["label_quality"]) for row in found]
    assert quality == sorted(quality)
    assert quality[3] == 0.5
    assert [row["is_label_issue"] for row in found] == ["True"] * issues + ["False"] * (6 - issues)
    assert [tables.armed(row["corrected_label"]) for row in found[:5]] == [HOSTILE[1], "", "", "", ""]
    assert {row["index_id"] for row in found} == {"i" * 12}


def test_the_labels_of_a_cleanlab_table_are_read_again(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    exchange.write("cleanlab", whole(loaded, put(flags, loaded), 0), tmp_path / "out.csv")
    found = checked(tmp_path / "out.csv", loaded)
    assert [said(each)[:3] for each in found.decisions] == [("train:0", "relabel", HOSTILE[1])]
    assert (found.blank, found.problems) == (5, ())


def test_cleanlab_reads_what_we_write(tmp_path: Path, flags: Flags) -> None:
    """Its CleanLearning trains without the issues of our table."""
    classification = pytest.importorskip("cleanlab.classification")
    pandas = pytest.importorskip("pandas")
    loaded = Loaded()
    exchange.write("cleanlab", whole(loaded, put(flags, loaded), 2), tmp_path / "out.csv")
    issues = pandas.read_csv(tmp_path / "out.csv")
    learner = classification.CleanLearning(seed=0)
    inputs = np.random.default_rng(0).normal(size=(6, 3))
    learner.fit(inputs, issues["given_label"].to_numpy(), label_issues=issues)
    assert learner.label_issues_mask.tolist() == [True, True, False, False, False, False]


# --- the place --------------------------------------------------------------------------------------------------------


def everything(format_: str, loaded: Loaded, events: Sequence[Event]) -> Chosen:
    return whole(loaded, events, 0) if format_ == "cleanlab" else chosen(loaded, events)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_replaces_an_earlier_one_only_when_told(tmp_path: Path, flags: Flags, format_: str) -> None:
    loaded, out = Loaded(), tmp_path / "out"
    events = put(flags, loaded)
    exchange.write(format_, everything(format_, loaded, events[:1]), out)
    before = content(out)
    with pytest.raises(InvalidInput, match=r"out is there already\. Name another --out, or replace it with --force"):
        exchange.write(format_, everything(format_, loaded, events), out)
    assert content(out) == before
    exchange.write(format_, everything(format_, loaded, events), out, force=True)
    assert content(out) != before
    assert [path.name for path in tmp_path.iterdir() if "sqlite" not in path.name] == ["out"]


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {str(each.relative_to(path.parent)): each.read_bytes() for each in files}


@pytest.mark.parametrize("format_", ["label-studio", "fiftyone"])
def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path: Path, flags: Flags, format_: str) -> None:
    loaded, out = Loaded(), tmp_path / "out"
    found = chosen(loaded, put(flags, loaded))
    out.mkdir()
    with pytest.raises(InvalidInput, match=r"is not replaced: it has no whence\.json of ours"):
        exchange.write(format_, found, out, force=True)
    out.rmdir()
    exchange.write(format_, found, out)
    (out / "thesis.tex").touch()
    with pytest.raises(InvalidInput, match=r"is not replaced: it holds thesis\.tex"):
        exchange.write(format_, found, out, force=True)
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(InvalidInput, match="link is no folder"):
        exchange.write(format_, found, tmp_path / "link", force=True)


@pytest.mark.parametrize("format_", FORMATS)
def test_an_export_that_fails_leaves_what_was_there(
    tmp_path: Path, flags: Flags, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, out = Loaded(), tmp_path / "out"
    events = put(flags, loaded)
    exchange.write(format_, everything(format_, loaded, events), out)
    before = content(out)

    opened = Path.open

    def full(self: Path, mode: str = "r", *options: Any, **more: Any) -> Any:
        if "w" in mode:
            raise OSError(28, "No space left on device", str(self))
        return opened(self, mode, *options, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreError, match=r"out cannot be written: No space left on device\. Nothing was left there"):
        exchange.write(format_, everything(format_, loaded, events), out, force=True)
    monkeypatch.undo()
    assert content(out) == before
    assert [path.name for path in tmp_path.iterdir() if "sqlite" not in path.name] == ["out"]


def test_a_folder_that_cannot_take_its_name_gives_back_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "out", Path.rename
    with places.folder(out, force=False) as draft:
        places.sign(draft, "fiftyone", {}, [])

    def refuse_drafts(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise PermissionError(13, "Permission denied", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_drafts)
    with pytest.raises(StoreError, match="out cannot be written: Permission denied"), places.folder(out, force=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / places.SIGNATURE).exists()


def test_what_cannot_be_exported_is_a_sentence(tmp_path: Path, flags: Flags) -> None:
    loaded = Loaded()
    found = chosen(loaded, put(flags, loaded))
    with pytest.raises(InvalidInput, match=r"There is no export as “xlsx”\. Use csv, cleanlab, json"):
        exchange.write("xlsx", found, tmp_path / "out")
    with pytest.raises(InvalidInput, match="There is nothing to export: no decision that is disputed"):
        exchange.write("csv", chosen(loaded, (), state="disputed"), tmp_path / "out")
    with pytest.raises(InvalidInput, match=r"There is no folder .*nowhere to write out in"):
        exchange.write("csv", found, tmp_path / "nowhere" / "out")
    with pytest.raises(InvalidInput, match=r"is no file"):
        exchange.write("csv", found, tmp_path, force=True)
    with pytest.raises(InvalidInput, match="--images folder is of label-studio, not of csv"):
        exchange.write("csv", replace(found, images="folder"), tmp_path / "out")
    with pytest.raises(InvalidInput, match="There is no state “any”"):
        chosen(loaded, (), state="any")
    assert not (tmp_path / "out").exists()


# --- the command line, on a model -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built and audited workspace, not to be changed."""
    _, workspace = disk.built(tmp_path_factory.mktemp("stripes"))
    audit.make(Workspace(workspace))
    return workspace


@pytest.fixture
def workspace(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "work"))


def test_suspects_go_out_and_decisions_come_back(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "work.csv"
    told = disk.whence("export", "--suspects", 3, "--out", out, "--workspace", workspace, "--json").json()
    assert (told["examples"], told["format"]) == (3, "csv")
    lines = lines_of(out)
    for row in lines:
        row["new_label"] = row["suggested_label"]
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(lines)
    dry = disk.whence("import", out, "--by", "Ada", "--dry-run", "--workspace", workspace, "--json").json()
    assert (dry["new"], dry["recorded"]) == (3, 0)
    assert disk.whence("flags", "--workspace", workspace, "--json").json() == []
    told = disk.whence("import", out, "--by", "Ada", "--workspace", workspace, "--json").json()
    assert (told["recorded"], told["known"], told["format"]) == (3, 0, "csv")
    events = disk.whence("flags", "--workspace", workspace, "--json").json()
    assert [(e["id"], e["label"], e["by"]) for e in events] == [(r["id"], r["new_label"], "Ada") for r in lines]
    again = disk.whence("import", out, "--by", "Ada", "--workspace", workspace)
    assert "recorded 0; 3 were recorded before" in again.out


def test_one_bad_row_keeps_all_from_being_recorded_unless_left_out(workspace: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "id,label", "train:0,bottom", "train:99,top", "train:1,cat")
    refused = disk.whence("import", path, "--by", "Ada", "--workspace", workspace)
    assert refused.code == 2
    assert (
        "2 of 3 rows of t.csv cannot be taken over. row 3: There is no example “train:99” in the data." in refused.err
    )
    assert disk.whence("flags", "--workspace", workspace, "--json").json() == []
    taken = disk.whence("import", path, "--by", "Ada", "--skip-bad", "--workspace", workspace)
    assert "recorded 1; 0 were recorded before, 0 rows have no decision, 2 were left out." in taken.out
    assert "row 4: “cat” is no class." in taken.err


def test_every_format_is_made_of_a_model(workspace: Path, tmp_path: Path) -> None:
    disk.whence("flag", "train:0", "--label", "bottom", "--by", "Ada", "--workspace", workspace)
    for format_ in FORMATS:
        told = disk.whence(
            "export", "--format", format_, "--suspects", 4, "--out", tmp_path / format_, "--workspace", workspace
        )
        assert (told.code, told.err) == (0, "")
    found = lines_of(tmp_path / "cleanlab")
    assert len(found) == disk.N_TRAIN
    assert sorted(row["rank"] for row in found if row["is_label_issue"] == "True") == list("1234")
    ranked = sorted(found, key=lambda row: int(row["rank"]))
    assert [row["index"] for row in ranked] == [
        row["index"] for row in sorted(found, key=lambda row: (float(row["label_quality"]), int(row["rank"])))
    ]
    loaded = pipeline.loaded(Workspace(workspace), str(Workspace(workspace).current("examples")))
    for task in tasks_of(tmp_path / "label-studio"):
        i = loaded.train.positions[task["data"]["item_id"]]
        assert base64.b64decode(task["data"]["image"].partition(",")[2]) == loaded.preview("train", i).image
        assert task["meta"]["reason"]
        assert task["meta"]["made_from"]["audit"]


def test_without_an_audit_decisions_go_out_and_suspects_say_what_is_missing(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path / "project")
    disk.whence("flag", "train:0", "--verdict", "keep", "--by", "Ada", "--workspace", workspace)
    assert disk.whence("export", "--out", tmp_path / "a.csv", "--workspace", workspace).code == 0
    refused = disk.whence("export", "--suspects", 5, "--out", tmp_path / "b.csv", "--workspace", workspace)
    assert refused.code == 2
    assert "There is no audit of the labels" in refused.err
    with pytest.raises(InvalidInput, match="cannot be of what is open alone"):
        exchange.write("cleanlab", replace(whole(Loaded(), (), 0), state="open"), tmp_path / "c.csv")
    assert gathering.gather(Workspace(workspace), ()).rows == ()

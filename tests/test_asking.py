"""Asking about what is in neither data set: how it is read, and that its evidence is that of the same example."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attribution import asking
from attribution.answers import Evidence
from attribution.debugger import Debugger
from attribution.errors import InvalidInput
from attribution.given import MOST_CHARACTERS, Column, checked_row, checked_text, outside, read_row
from attribution.project import Project
from tests import disk
from tests.askable import CODED, PICTURES, ROWS, TEXTS


def opened(tmp_path_factory: pytest.TempPathFactory, *changes: str) -> tuple[Path, Debugger]:
    _, workspace = disk.built(tmp_path_factory.mktemp("asked"), *changes)
    return workspace, Debugger.open(workspace)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Debugger]:
    return opened(tmp_path_factory, PICTURES)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Debugger]:
    return opened(tmp_path_factory, TEXTS)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Debugger]:
    return opened(tmp_path_factory, ROWS)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Debugger]:
    return opened(tmp_path_factory, ROWS, CODED)


@pytest.fixture(scope="module", params=["pictures", "texts", "rows", "coded"])
def debugger(request: pytest.FixtureRequest) -> Debugger:
    found: Debugger = request.getfixturevalue(request.param)[1]
    return found


# --- laws that hold for every kind of data ----------------------------------------------------------------------------


def without_times(evidence: Evidence) -> dict[str, Any]:
    return {name: value for name, value in vars(evidence).items() if not name.startswith("seconds")}


@pytest.mark.parametrize("target", ["predicted", 0, 1, 2])
def test_asking_about_a_test_example_as_if_it_were_new_gives_its_evidence(debugger: Debugger, target: Any) -> None:
    id_ = debugger.test.ids[5]
    known, new = debugger.evidence(id_, target=target), debugger.ask(debugger.given(id_), target=target)
    np.testing.assert_allclose(new.scores, known.scores, rtol=1e-4, atol=1e-6)
    assert new.target_label == known.target_label
    assert new.standout.ratio == pytest.approx(known.standout.ratio, rel=1e-4)
    for side in ("proponents", "opponents"):
        a, b = getattr(new, side), getattr(known, side)
        assert [row.item.id for row in a] == [row.item.id for row in b]
        for mine, theirs in zip(a, b, strict=True):
            assert dict(mine.distances) == pytest.approx(dict(theirs.distances), rel=1e-3, abs=1e-3)


def test_the_final_model_says_the_same_of_it(debugger: Debugger) -> None:
    for id_ in debugger.test.ids[:6]:
        known, new = debugger.item(id_), debugger.read(debugger.given(id_)).item
        np.testing.assert_allclose(new.probabilities, known.probabilities, rtol=1e-4)
        assert (new.predicted, new.split, new.position, new.is_new) == (known.predicted, "new", -1, True)
        assert not new.is_mistake


def test_what_the_training_set_holds_is_named(debugger: Debugger) -> None:
    found = debugger.ask(debugger.given("train:7")).exact_copies
    assert found == tuple(id_ for id_, h in zip(debugger.train.ids, debugger.train.hashes, strict=True)
                          if h == debugger.train.hashes[7])  # fmt: skip
    assert "train:7" in found


def test_the_distance_to_what_the_training_set_holds_is_zero(debugger: Debugger) -> None:
    asked = debugger.read(debugger.given("train:7"))
    evidence = debugger.ask(asked, k=48, target=int(debugger.train.labels[7]))
    for kind in debugger.distance_kinds:
        plot = debugger.distance_plot(evidence, kind, asked)
        at = list(plot.positions).index(7)
        if kind == "words":  # BM25 knows no zero: nothing is as near as what it is
            assert plot.distance[at] == plot.distance.min()
        else:
            assert plot.distance[at] == pytest.approx(0, abs=2e-3)


def test_a_preview_of_something_new_is_of_the_datas_kind(debugger: Debugger) -> None:
    id_ = debugger.test.ids[3]
    shown, known = debugger.read(debugger.given(id_)).preview, debugger.preview(id_)
    assert shown.kind == known.kind
    assert shown == known


def test_reading_back_what_is_seen_of_row_0_gives_row_0(debugger: Debugger) -> None:
    said, same = asking.compare_reading(debugger._project)
    assert same, said


def test_nothing_that_is_asked_is_written(pictures: tuple[Path, Debugger]) -> None:
    workspace, debugger = pictures
    before = disk.everything(workspace)
    debugger.ask(Image.new("RGB", (40, 30), "red"))
    assert disk.everything(workspace) == before


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("label", "Something new has no label to ask about. Ask about predicted, or about a class."),
        ("truth", "The target “truth” is not known."),
        (3, "There is no class number 3. Use 0 to 2."),
        (-1, "There is no class number -1."),
    ],
)
def test_what_cannot_be_asked_of_it(debugger: Debugger, target: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        debugger.ask(debugger.given("test:0"), target=target)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("given", [7, None, b"bytes", ["a", "b"]])
def test_what_is_of_no_kind_is_refused(debugger: Debugger, given: Any) -> None:
    with pytest.raises(InvalidInput, match="was given"):
        debugger.read(given)


def test_a_named_class_that_is_predicted_or_given_is_called_so(pictures: tuple[Path, Debugger]) -> None:
    debugger = pictures[1]
    item = next(debugger.item(id_) for id_ in debugger.test.ids if debugger.item(id_).is_mistake)
    third = ({0, 1, 2} - {item.predicted, item.label}).pop()
    asked = [debugger.evidence(item.id, target=k).target for k in (item.predicted, item.label, third)]
    assert asked == ["predicted", "label", "class"]


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_picture_of_another_size_and_colour_is_read(pictures: tuple[Path, Debugger]) -> None:
    _, debugger = pictures
    large = debugger.given("test:0").resize((60, 60), Image.Resampling.NEAREST).convert("RGB")
    found, known = debugger.read(large), debugger.read(debugger.given("test:0"))
    np.testing.assert_allclose(found.item.probabilities, known.item.probabilities, atol=0.05)
    assert Image.open(io.BytesIO(found.preview.image)).size == (6, 6)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (
            "lambda picture: torch.zeros(1, 6, 6).double()",
            r"gives \(1, 6, 6\) float64, and the data set's inputs are \(1, 6, 6\) float32",
        ),
        ("lambda picture: torch.zeros(3, 6, 6)", r"gives \(3, 6, 6\) float32"),
        ("lambda picture: picture", "gives another Image, and"),
        ("lambda picture: torch.full((1, 6, 6), torch.nan)", "holds NaN or infinite values"),
        ("lambda picture: picture.no_such_thing", r"read\(\) of the project cannot take this: AttributeError:"),
    ],
)
def test_a_read_that_does_not_fit_is_one_sentence(tmp_path: Path, read: str, said: str) -> None:
    project, workspace = disk.built(tmp_path, f"OPTIONS['read'] = {read}")
    with pytest.raises(InvalidInput, match=said):
        Debugger.open(workspace).read(Image.new("L", (6, 6)))
    (check,) = [row for row in json.loads(disk.whence("check", project, "--json").out) if row["check"] == "read"]
    assert check["ok"] is False


def test_check_says_how_far_what_is_read_is_from_the_data(tmp_path: Path) -> None:
    project = disk.write_project(tmp_path, PICTURES, "OPTIONS['read'] = lambda picture: 0.9 * READ(picture)")
    (check,) = [row for row in json.loads(disk.whence("check", project, "--json").out) if row["check"] == "read"]
    assert check["ok"] is False
    assert check["finding"].startswith("Reading what a person sees of training row 0 gives that row but for 0.0")
    assert check["fix"] == "Let read= do exactly what the data set does to an input."


def test_check_forgives_what_bytes_lose(tmp_path: Path) -> None:
    """These pixels are no multiples of 1/255."""
    project = disk.write_project(tmp_path, PICTURES, "for data in (TRAIN, TEST):\n    data.pictures /= 1.5",
                                 "OPTIONS.update(train=TRAIN, test=TEST)")  # fmt: skip
    (check,) = [each for each in disk.whence("check", project, "--json").json() if each["check"] == "read"]
    assert (check["check"], check["ok"]) == ("read", True)
    assert "% of its range." in check["finding"]


def test_a_project_without_read_says_what_to_add(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path)
    debugger = Debugger.open(workspace)
    assert debugger.why_not_ask.startswith("To ask about something new, add read=… to the project file: a function of")
    with pytest.raises(InvalidInput, match="add read=…"):
        debugger.ask(Image.new("L", (6, 6)))


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["🎬 good", "שלום עולם", "<script>alert(1)</script>", "a\0b", "\N{ZERO WIDTH JOINER}x"]
)
def test_any_text_is_shown_as_it_was_given(texts: tuple[Path, Debugger], text: str) -> None:
    assert texts[1].read(text).preview.text == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The text is empty. Write at least one word."),
        (" \n\t\N{NO-BREAK SPACE}", "The text is empty."),
        ("x" * 100_000, "The text has 100,000 characters, and at most 20,000 are read."),
        ("half \ud83d", "The text holds half of a character"),
    ],
)
def test_a_text_that_cannot_be_asked_about(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_text(text)
    assert str(refused.value).startswith(said)


def test_the_longest_text_is_read() -> None:
    assert len(checked_text("x" * MOST_CHARACTERS)) == MOST_CHARACTERS


# --- rows -------------------------------------------------------------------------------------------------------------


def test_columns_are_numbers_or_one_of_a_few_texts(coded: tuple[Path, Debugger]) -> None:
    found = coded[1].fields
    assert [(each.name, each.is_number) for each in found] == [("age", True), ("from", False), ("stay", True)]
    assert [each.choices for each in found] == [(), ("clinic", "home", "ward"), ()]


_SEEN = (
    Column("age", True, (), 0.0, 50.0, 10.0),
    Column("from", False, ("home", "ward")),
    Column("note", False),
    Column("always", True, (), 3.0, 3.0, 0.0),
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"age": 0}, []),
        ({"age": 50.0}, []),
        ({"age": 75}, ["“age” is 75, 2.5 standard deviations above the highest of all 9 rows, 50."]),
        ({"age": -1}, ["“age” is −1, 0.1 standard deviations below the lowest of all 9 rows, 0."]),
        ({"from": "moon"}, ["“from” is “moon”, and none of all 9 rows has it."]),
        ({"note": "anything"}, []),  # texts too many to be kept
        ({"always": 4}, ["“always” is 4, and in all 9 rows it is 3."]),
    ],
    ids=str,
)
def test_what_lies_beyond_every_training_row_is_said_by_how_far(change: dict[str, Any], said: list[str]) -> None:
    assert list(outside({"age": 20, "from": "home", "note": "", "always": 3, **change}, _SEEN, "all 9 rows")) == said


def test_no_row_of_the_training_set_lies_beyond_it(rows: tuple[Path, Debugger]) -> None:
    debugger = rows[1]
    for id_ in debugger.train.ids[:20]:
        assert debugger.read(debugger.given(id_)).outside == ()
    far = {**debugger.given(debugger.train.ids[0]), "age": 10_000}
    (sentence,) = debugger.ask(far).outside
    assert sentence.startswith("“age” is 1e+04, ")
    assert f"all {debugger.n_train:,} training rows" in sentence


@pytest.mark.parametrize("target", ["predicted", 0, 1])
def test_an_influence_on_something_new_splits_as_that_on_the_same_test_row(
    rows: tuple[Path, Debugger], target: str | int
) -> None:
    debugger = rows[1]
    id_ = debugger.test.ids[0]
    new = debugger.read(debugger.given(id_))
    evidence = debugger.ask(new, target=target)
    best = evidence.proponents[0].item.id
    found, wanted = debugger.breakdown(best, new, target=target), debugger.breakdown(best, id_, target=target)
    assert found.total == pytest.approx(wanted.total, rel=1e-6)
    assert [part.value for part in found.by_layer] == pytest.approx([part.value for part in wanted.by_layer], rel=1e-6)
    columns = debugger.column_influence(evidence, new), debugger.column_influence(debugger.evidence(id_, target=target))
    assert columns[0].ids == columns[1].ids
    assert np.allclose(columns[0].gradient, columns[1].gradient, rtol=1e-5)


def test_what_a_column_is_called_decides_and_not_its_place(rows: tuple[Path, Debugger]) -> None:
    a = rows[1].read({"age": 4, "stay": 2, "visits": 1})
    b = rows[1].read({"visits": "1", "age": "4.0", "stay": 2.0})
    assert torch.equal(a.inputs, b.inputs)
    assert a.inputs.tolist() == [[4.0, 2.0, 1.0]]


@pytest.mark.parametrize("of", [torch.tensor, np.array])
def test_a_part_of_a_whole_number_is_refused_and_not_cut_off(of: Any) -> None:
    class Counts:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, i: int) -> tuple[Any, int]:
            return of([4, 2]), 0

    project = Project(name="counts", model=torch.nn.Identity, train=Counts(), test=Counts(), classes=["a", "b"],
                      modality="tabular", feature_names=["age", "stay"])  # fmt: skip
    read = asking.reader(project)
    assert read is not None
    assert read({"age": 3.0, "stay": 1}).tolist() == [3, 1]
    with pytest.raises(InvalidInput, match=r"“age” holds whole numbers in this data, and 3\.7 was given"):
        read({"age": 3.7, "stay": 1})


def test_a_value_that_the_project_does_not_know_is_said_in_its_words(coded: tuple[Path, Debugger]) -> None:
    said = r"read\(\) of the project cannot take this: ValueError: the moon is no place people come from\."
    with pytest.raises(InvalidInput, match=said):
        coded[1].read({"age": 4, "from": "the moon", "stay": 1})


COLUMNS = (Column("age", True), Column("from", False))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "“age” (and 1 more) is a column without a value. The columns are age, from."),
        ({"age": 1, "from": "home", "<b>": 2}, "“<b>” is not a column of this data."),
        ({"age": "old", "from": "home"}, "The value of “age” is 'old', not a finite number."),
        ({"age": float("nan"), "from": "home"}, "The value of “age” is 'nan', not a finite number."),
        ({"age": "inf", "from": "home"}, "The value of “age” is 'inf', not a finite number."),
        ({"age": 10**400, "from": "home"}, "The value of “age” is "),
        ({"age": None, "from": "home"}, "“age” has no value."),
        ({"age": [1], "from": "home"}, "The value of “age” is '[1]', not a finite number."),
        ({"age": 1, "from": {"a": 1}}, "The value of “from” is no text of at most 1,000 characters."),
        ({"age": 1, "from": "x" * 1001}, "The value of “from” is no text of at most 1,000 characters."),
        ("age", "A row is a mapping of column to value, and a str was given."),
    ],
)
def test_a_row_that_cannot_be_asked_about(row: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_row(row, COLUMNS)
    assert str(refused.value).startswith(said)


def test_whole_numbers_stay_whole() -> None:
    found = checked_row({"from": "home", "age": "4"}, COLUMNS)
    assert list(found.items()) == [("age", 4), ("from", "home")]
    assert isinstance(found["age"], int)


def test_a_row_whose_gradient_overflows_is_refused_and_not_the_workspace(rows: tuple[Path, Debugger]) -> None:
    asked = rows[1].read({"age": 1e30, "stay": 2, "visits": 1})
    with pytest.raises(InvalidInput, match=r"^The gradient of new:\w+ is not finite\."):
        rows[1].ask(asked)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", "[" * 100_000])
def test_what_is_no_json_object_is_no_row(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^The row is "):
        read_row(text)


# --- the command line -------------------------------------------------------------------------------------------------


def test_a_text_on_the_command_line(texts: tuple[Path, Debugger]) -> None:
    found = disk.whence("query", "--text", "good film", "--top", 3, "--workspace", texts[0], "--json").json()
    assert (found["query"]["label"], found["query"]["position"], found["query"]["loss"]) == (None, None, None)
    assert found["target"] == "predicted"
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["query"]["predicted_name"] == next(iter(found["probabilities"]))
    assert len(found["proponents"]) == 3
    plain = disk.whence("query", "--text", "good film", "--target", "top", "--workspace", texts[0])
    assert "asking about “top”" in plain.out
    assert "labelled" not in plain.out.splitlines()[0]


def test_a_row_on_the_command_line_and_from_a_file(rows: tuple[Path, Debugger], tmp_path: Path) -> None:
    row = json.dumps(rows[1].given("test:3"))
    (tmp_path / "row.json").write_text("\ufeff" + row)
    options = ["--target", "middle", "--workspace", rows[0], "--json"]
    by_text = disk.whence("query", "--row", row, *options).json()
    by_file = disk.whence("query", "--row-file", tmp_path / "row.json", *options).json()
    by_id = disk.whence("query", "--test", "test:3", *options).json()
    assert by_text == by_file
    assert [r["id"] for r in by_text["proponents"]] == [r["id"] for r in by_id["proponents"]]
    assert by_text["asked"] == by_id["asked"] == "middle"


def test_a_picture_on_the_command_line(pictures: tuple[Path, Debugger], tmp_path: Path) -> None:
    pictures[1].given("train:4").save(tmp_path / "a.txt", "PNG")  # its name is not asked
    found = disk.whence("query", "--image", tmp_path / "a.txt", "--workspace", pictures[0], "--json").json()
    assert "train:4" in found["exact_copies"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--text", ""], "The text is empty."),
        (["--text", "good", "--test", "0"], "It is not clear what is asked about."),
        (["--text", "good", "--target", "label"], "Something new has no label to ask about."),
        (["--text", "good", "--target", "tap"], "The target “tap” is not known. Use predicted or label, or a class: "),
        (["--row", "{}"], "A text is asked about, and a dict was given."),
        (["--image", "no/such.png"], "no/such.png cannot be read: No such file or directory."),
        (["--row-file", "."], ". cannot be read: Is a directory."),
    ],
)
def test_what_the_command_line_refuses(texts: tuple[Path, Debugger], arguments: list[str], said: str) -> None:
    answer = disk.whence("query", *arguments, "--workspace", texts[0])
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(said)

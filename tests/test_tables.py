"""Tables from files: what is read from CSV, Parquet, Arrow and memory, how it is encoded, and what is refused how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from attribution import rows_in, texts_in
from attribution.data import is_held_out
from attribution.errors import InvalidInput
from attribution.frames import labels_of, read
from tests import disk

PEOPLE = """\
person,age,job,city code,income
a7,20,nurse,1010,low
a2,40,clerk,2020,high
a9,30,nurse,1010,high
"""
MORE = "person,age,job,city code,income\nb1,50,clerk,2020,low\n"


@pytest.fixture
def people(tmp_path: Path) -> tuple[Path, Path]:
    return disk.write_text(tmp_path / "people.csv", PEOPLE), disk.write_text(tmp_path / "more.csv", MORE)


def saved_as_datasets_does(folder: Path, table: pa.Table, names: dict[str, list[str]] | None = None) -> Path:
    """What `Dataset.save_to_disk` writes: Arrow streams in two shards, their list, and what the columns mean."""
    folder.mkdir(parents=True)
    files = []
    for shard, rows in enumerate((table.slice(0, 2), table.slice(2))):
        file = f"data-{shard:05}-of-00002.arrow"
        with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(rows)
        files.append({"filename": file})
    features = {name: {"names": given, "_type": "ClassLabel"} for name, given in (names or {}).items()}
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_fingerprint": "1"}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


# --- what is read -----------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_data(people: tuple[Path, Path], tmp_path: Path) -> None:
    frame = pd.read_csv(people[0])
    frame.to_parquet(tmp_path / "people.parquet")
    frame.to_csv(tmp_path / "people.tsv", sep="\t", index=False)
    frame.to_csv(tmp_path / "excel.csv", sep=";", index=False, encoding="utf-8-sig")
    saved_as_datasets_does(tmp_path / "people", pa.Table.from_pandas(frame, preserve_index=False))
    sources: list[Any] = [
        people[0],
        frame,
        *(tmp_path / n for n in ("people.parquet", "people.tsv", "excel.csv", "people")),
    ]
    found = [rows_in(source, people[1], label="income", id="person") for source in sources]
    for data in found:
        assert data.classes == ("high", "low")
        assert data.feature_names == found[0].feature_names
        assert data.train_ids == ("a7", "a2", "a9")
        assert torch.equal(data.train.features, found[0].train.features)
        assert data.train.labels.tolist() == [1, 0, 0]
        assert data.train.row(1) == {"age": 40, "job": "clerk", "city code": 2020}


def test_data_is_spread_into_a_project(people: tuple[Path, Path]) -> None:
    data = rows_in(*people, label="income", id="person")
    options = dict(**data)
    assert options["train"] is data.train
    assert options["classes"] == ("high", "low")
    assert (options["modality"], options["test_ids"]) == ("tabular", ("b1",))
    assert options["preview"](data.test, 0)["job"] == "clerk"


def test_encoding_is_scikit_learns(people: tuple[Path, Path]) -> None:
    train, test = (pd.read_csv(path) for path in people)
    oracle = ColumnTransformer([("n", StandardScaler(), ["age", "city code"]), ("c", OneHotEncoder(), ["job"])])
    data = rows_in(*people, label="income", features=["age", "city code", "job"])
    assert data.feature_names == ("age", "city code", "job=clerk", "job=nurse")
    np.testing.assert_allclose(data.train.features, oracle.fit_transform(train), rtol=1e-6)
    np.testing.assert_allclose(data.test.features, oracle.transform(test), rtol=1e-6)


def test_numbers_may_stay_as_they_are_or_be_names(people: tuple[Path, Path]) -> None:
    plain = rows_in(*people, label="income", features=["age"], standardise=False)
    assert plain.train.features[:, 0].tolist() == [20, 40, 30]
    coded = rows_in(*people, label="income", features=["city code"], categorical=["city code"])
    assert coded.feature_names == ("city code=1010", "city code=2020")
    constant = rows_in(pd.DataFrame({"x": [3, 3, 3], "y": [0, 1, 0]}), people_of_x(3), label="y")
    assert constant.train.features.tolist() == [[0], [0], [0]]


def people_of_x(x: float) -> pd.DataFrame:
    return pd.DataFrame({"x": [x], "y": [1]})


@pytest.mark.parametrize(
    ("cells", "classes", "positions"),
    [
        (["dog", "cat", "dog", "ant"], ("ant", "cat", "dog"), [2, 1, 2, 0]),
        ([10, 9, 2, 10], ("2", "9", "10"), [2, 1, 0, 2]),
        (["10", "9", "2", "10"], ("2", "9", "10"), [2, 1, 0, 2]),
        ([1.0, 0.0, 1.0, 0.0], ("0", "1"), [1, 0, 1, 0]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        (["NA", "nan", "null", "None"], ("NA", "None", "nan", "null"), [0, 2, 3, 1]),
        (["<b>", "😀", "ا", "007"], ("007", "<b>", "ا", "😀"), [1, 3, 2, 0]),
    ],
)
def test_labels_in_any_order_and_of_any_kind(
    tmp_path: Path, cells: list[object], classes: tuple[str, ...], positions: list[int]
) -> None:
    frame = pd.DataFrame({"text": list("abcd"), "label": pd.Series(cells, dtype=object)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    for source in (frame, tmp_path / "a.csv"):
        names, (found,) = labels_of([read(source)], "label")
        assert (names, found.tolist()) == (classes, positions)


def test_classes_are_given_in_the_order_of_the_models_outputs() -> None:
    names, (found,) = labels_of([read(pd.DataFrame({"y": ["b", "a", "b"]}))], "y", ["b", "a"])
    assert (names, found.tolist()) == (("b", "a"), [0, 1, 0])
    names, (found,) = labels_of([read(pd.DataFrame({"y": [1, 0, 1]}))], "y", ["no", "yes"])  # positions in them
    assert (names, found.tolist()) == (("no", "yes"), [1, 0, 1])
    names, (found,) = labels_of([read(pd.DataFrame({"y": [1, 0]}))], "y", ["1", "0"])  # names, though they are numbers
    assert found.tolist() == [0, 1]


def test_a_data_set_saved_by_datasets_names_its_classes(tmp_path: Path) -> None:
    table = pa.table({"text": ["good", "bad", "fine"], "label": [1, 0, 1]})
    for split in ("train", "test"):
        saved_as_datasets_does(tmp_path / "reviews" / split, table, {"label": ["negative", "positive"]})
    disk.write_text(tmp_path / "reviews" / "dataset_dict.json", json.dumps({"splits": ["train", "test"]}))
    data = texts_in(tmp_path / "reviews/train", tmp_path / "reviews/test", text="text", label="label")
    assert data.classes == ("negative", "positive")
    assert [data.train[i] for i in range(3)] == [("good", 1), ("bad", 0), ("fine", 1)]
    with pytest.raises(InvalidInput, match=r"reviews holds the splits train, test\. Name one, as in “reviews/train”"):
        texts_in(tmp_path / "reviews", text="text", label="label")


def test_texts_come_as_they_stand(tmp_path: Path) -> None:
    texts = ['a, "b"\nand c', "<script>alert(1)</script>", "אבג 😀", " NA ", "x" * 100_000]
    frame = pd.DataFrame({"t": texts, "y": [0, 1, 0, 1, 0]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert list(texts_in(tmp_path / "a.csv", frame, text="t", label="y").train.texts) == texts


# --- the rows held out ------------------------------------------------------------------------------------------------


def test_a_share_of_one_table_is_held_out_and_every_row_is_in_one_split() -> None:
    frame = pd.DataFrame({"t": [f"text {i}" for i in range(500)], "y": [i % 3 for i in range(500)]})
    data = texts_in(frame, text="t", label="y", test_share=0.2)
    rows = [int(id_.split(":")[1]) for id_ in (*data.train_ids, *data.test_ids)]
    assert sorted(rows) == list(range(500))
    assert 70 < len(data.test) < 130
    assert [data.test.texts[0], *data.test[0]][:1] == [f"text {rows[len(data.train)]}"]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 300), more=st.integers(0, 100), share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_rows_that_are_appended_move_none_between_the_splits(n: int, more: int, share: float, seed: int) -> None:
    np.testing.assert_array_equal(is_held_out(n + more, share, seed)[:n], is_held_out(n, share, seed))


@pytest.mark.parametrize(("n", "share"), [(1, 0.5), (3, 0.01), (3, 0.99)])
def test_a_split_without_a_row_is_refused_with_its_numbers(n: int, share: float) -> None:
    kept = n if share > 0.9 else int(is_held_out(n, share, 0).sum())
    with pytest.raises(InvalidInput, match=f"Of the {n} rows of the DataFrame, {kept} would be kept") as error:
        texts_in(pd.DataFrame({"t": ["text"] * n, "y": [0] * n}), text="t", label="y", test_share=share)
    assert "another seed" in error.value.hint


# --- what is refused --------------------------------------------------------------------------------------------------

_ROW = "a3,30,nurse,1010,low\n"
_CELL_FAULTS = {
    "no label": (_ROW.replace("low", ""), r"Row 3 of people\.csv has no label in the column “income”\. Leave"),
    "a label of spaces": (_ROW.replace("low", "  "), r"Row 3 of people\.csv has no label in the column “income”"),
    "NaN": (_ROW.replace("30", "nan"), r"Row 3 of people\.csv has nan in the column “age”\. Mend it, or leave out"),
    "infinity": (_ROW.replace("30", "-inf"), r"Row 3 of people\.csv has -inf in the column “age”\."),
    "too large for float32": (_ROW.replace("30", "1e300"), r"Row 3 of people\.csv has 1e\+300 in the column “age”"),
    "nothing": (_ROW.replace("30", ""), r"Row 3 of people\.csv has nothing in the column “age”\. Fill it, or leave"),
    "a text among numbers": (
        _ROW.replace("30", "NA"), r"Row 3 of people\.csv has the text “NA” among numbers in the column “age”\. Mend",
    ),
    "no category": (_ROW.replace("nurse", ""), r"Row 3 of people\.csv has nothing in the column “job”\."),
    "two rows with one id": (_ROW.replace("a3", "a2"), r"Rows 1 and 3 of people\.csv have one id, “a2”\. Give every"),
    "no id": (_ROW.replace("a3", ""), r"Row 3 of people\.csv has no id in the column “person”\."),
    "a row cut short": ("a3,30\n", r"Row 3 of people\.csv has no label in the column “income”\."),
    "a row too long": (_ROW.replace("low", "low,1,2"), r"people\.csv cannot be read: .*Expected 5 fields in line 5"),
}  # fmt: skip


@pytest.mark.parametrize("fault", _CELL_FAULTS)
def test_a_cell_that_is_wrong_is_named(people: tuple[Path, Path], fault: str) -> None:
    row, said = _CELL_FAULTS[fault]
    people[0].write_text(PEOPLE + row)
    with pytest.raises(InvalidInput, match=f"^{said}"):
        rows_in(*people, label="income", id="person")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b1,50,pilot,2020,low\n", r"^Row 0 of more\.csv has “pilot”, which no training row has in the column “job”\."),
        (
            "b1,50,clerk,2020,rich\n",
            r"^Row 0 of more\.csv is labelled “rich” in the column “income”\. The 2 classes are",
        ),
    ],
)
def test_what_the_training_rows_do_not_have_is_refused(people: tuple[Path, Path], row: str, said: str) -> None:
    people[1].write_text(PEOPLE.splitlines()[0] + "\n" + row)
    with pytest.raises(InvalidInput, match=said):
        rows_in(*people, label="income", id="person")


def test_a_text_that_is_empty_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["a", "b", " \n"], "y": [0, 1, 0]})
    with pytest.raises(
        InvalidInput, match=r"^Row 2 of the DataFrame has no text in the column “t”\. Leave the row out\."
    ):
        texts_in(frame, frame, text="t", label="y")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.csv", None, r"^There is no file at .*gone\.csv\. Check the path; it is relative to the project file\."),
        ("a.xlsx", b"PK", r"^a\.xlsx is no table that is read here\. Use \.csv, \.tsv, \.parquet"),
        ("a.csv", b"", r"^a\.csv cannot be read: "),
        ("a.csv", b"x,y\n", r"^There are no rows in a\.csv\."),
        ("a.csv", b"x,y\n1,\xff\xfe\n", r"^a\.csv cannot be read: 'utf-8' codec can't decode byte 0xff"),
        ("a.csv", b"x,y\n1,2,\n3,4,\n", r"^a\.csv cannot be read: .*Expected 2 fields in line 2, saw 3"),
        ("a.csv", b"y,x,x\n1,2,3\n", r"^There are two columns “x” in a\.csv\."),
        (
            "a.csv",
            b"x,income\n1,2\n",
            r"^There is no column “y” in a\.csv\. Its columns, the most alike first: x, income\.",
        ),
        ("a.parquet", b"PAR1 nothing", r"^a\.parquet cannot be read: "),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        rows_in(tmp_path / name, label="y")


def test_a_folder_that_is_no_data_set_and_one_with_selected_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is no data set that save_to_disk wrote\. It has no state\.json"):
        rows_in(tmp_path, label="y")
    folder = saved_as_datasets_does(tmp_path / "a", pa.table({"x": [1, 2, 3], "y": [0, 1, 0]}))
    disk.edit_json(folder / "state.json", _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(InvalidInput, match=r"^a was saved with its rows selected but not written\. Save it again"):
        rows_in(folder, label="y")
    saved_as_datasets_does(tmp_path / "b", pa.table({"x": [1, 2, 3], "y": [0, 1, 0]}))
    (tmp_path / "b" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InvalidInput, match=r"^b cannot be read: .*data-00001-of-00002\.arrow"):
        rows_in(tmp_path / "b", label="y")


def test_columns_that_cannot_be_used(people: tuple[Path, Path]) -> None:
    with pytest.raises(
        InvalidInput, match=r"^There is no column “agee” in people\.csv\. Its columns, the most alike first: age, "
    ):
        rows_in(*people, label="income", features=["agee"])
    names = pd.DataFrame({"name": [f"name {i}" for i in range(200)], "y": [i % 2 for i in range(200)]})
    with pytest.raises(
        InvalidInput, match=r"“name” of the DataFrame holds 200 different texts, too many to be categories"
    ):
        rows_in(names, names, label="y")
    prices = pd.DataFrame({"x": range(2000), "price": np.linspace(0, 1, 2000)})
    with pytest.raises(InvalidInput, match=r"“price” of the DataFrame holds 2,000 different values, as no label does"):
        rows_in(prices, label="price")
    with pytest.raises(InvalidInput, match=r"^There are two columns “x” in the DataFrame\."):
        rows_in(pd.DataFrame([[1, 2, 0]], columns=["x", "x", "y"]), label="y")
    with pytest.raises(InvalidInput, match=r"^There is no column of features beside “y” in the DataFrame\."):
        rows_in(prices[["x"]].rename(columns={"x": "y"}).head(9), label="y", test_share=0.5)


def test_paths_are_relative_to_the_project_file(people: tuple[Path, Path], tmp_path: Path) -> None:
    """From whatever folder it is read."""
    project = disk.write_text(
        tmp_path / "people.py",
        "import torch\nfrom attribution import Project, TrainingRecipe, rows_in\n"
        "data = rows_in('people.csv', 'more.csv', label='income', id='person')\n"
        "def project():\n"
        "    return Project(name='people', model=lambda: torch.nn.Linear(4, 2), "
        "retrain=TrainingRecipe(epochs=5), **data)\n",
    )
    assert not Path("people.csv").exists()
    assert disk.whence("check", project).code == 0
    people[1].unlink()
    answer = disk.whence("check", project)
    assert answer.code == 2
    assert answer.err.startswith(f"There is no file at {tmp_path}/more.csv. ")


def test_a_constant_column_becomes_zero_whatever_rounding_leaves() -> None:
    train = pd.DataFrame({"x": [1e6 + 0.1] * 7, "z": range(7), "y": [0, 1] * 3 + [0]})
    data = rows_in(train, train.assign(x=1e6 + 0.3), label="y")
    assert train["x"].std(ddof=0) > 0
    assert {data.train[i][0][0].item() for i in range(7)} == {0.0}
    assert data.test[0][0][0].item() == pytest.approx(0.2, abs=1e-6)


def test_the_shares_that_two_seeds_hold_out_have_nothing_to_do_with_each_other() -> None:
    halves = [is_held_out(4000, 0.5, seed) for seed in range(8)]
    both = [(a & b).mean() for i, a in enumerate(halves) for b in halves[:i]]
    assert both == pytest.approx([0.25] * len(both), abs=0.05)


def test_a_name_in_capitals_and_a_column_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "A.CSV").write_text(",x,y\n7,1,0\n8,2,1\n")
    data = rows_in(tmp_path / "A.CSV", tmp_path / "A.CSV", label="y")
    assert data.feature_names == ("Unnamed: 0", "x")


def test_two_data_sets_whose_classes_are_in_another_order_are_refused(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2], "y": [0, 1]})
    train = saved_as_datasets_does(tmp_path / "train", table, {"y": ["cat", "dog"]})
    test = saved_as_datasets_does(tmp_path / "test", table, {"y": ["dog", "cat"]})
    with pytest.raises(InvalidInput, match=r"^The column “y” of test has other classes than that of train, or in"):
        rows_in(train, test, label="y")


def test_a_data_set_with_a_column_of_lists_and_one_whose_description_is_cut(tmp_path: Path) -> None:
    folder = saved_as_datasets_does(tmp_path / "a", pa.table({"x": [1, 2], "y": [0, 1]}), {"y": ["cat", "dog"]})
    described = json.loads((folder / "dataset_info.json").read_text())["features"]
    listed = [{"dtype": "string", "_type": "Value"}]
    disk.edit_json(folder / "dataset_info.json", features=described | {"tags": listed})
    assert rows_in(folder, folder, label="y").classes == ("cat", "dog")
    (folder / "state.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"^a cannot be read: '_data_files'\."):
        rows_in(folder, label="y")


def test_a_column_that_is_misspelt_is_told_those_that_are_spelt_most_like_it_first() -> None:
    table = pd.DataFrame({"x": [1.0], "in come": ["a"], "outcome": ["b"], "Income": ["c"]})
    with pytest.raises(InvalidInput, match=r"the most alike first: Income, in come, outcome, x\.$"):
        rows_in(table, table, label="incom")
    wide = pd.DataFrame({f"c{i}": [1.0] for i in range(30)})
    with pytest.raises(InvalidInput, match=r"alike first: c\d+,.* and 10 more\.$"):
        rows_in(wide, wide, label="c")


def test_a_row_that_is_given_is_encoded_as_the_row_of_the_table_that_it_is(people: tuple[Path, Path]) -> None:
    data = rows_in(*people, label="income", id="person")
    assert data.read is not None
    for split in (data.train, data.test):
        for i in range(len(split)):
            assert torch.equal(data.read(split.row(i)), split[i][0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"job": "astronaut"}, r"^“job” is “astronaut”, which no training row has: the model has no feature for it\."),
        ({"age": "old"}, r"^“age” is “old”, and it holds numbers\."),
        ({"age": 1e300}, r"^“age” is “1e\+300”, and it holds numbers\."),
    ],
)
def test_a_cell_that_no_row_may_have_is_refused(people: tuple[Path, Path], change: dict[str, Any], said: str) -> None:
    data = rows_in(*people, label="income", id="person")
    assert data.read is not None
    with pytest.raises(InvalidInput, match=said):
        data.read({**data.train.row(0), **change})


def test_texts_whose_label_is_a_number() -> None:
    table = pd.DataFrame({"words": ["good", "bad"], "stars": ["4.5", "1"]})
    data = texts_in(table, table, text="words", label="stars", target="number", unit="stars")
    assert [data.train[i] for i in range(2)] == [("good", 4.5), ("bad", 1.0)]
    assert (data.target, data.unit, data.classes) == ("number", "stars", ())
    with pytest.raises(InvalidInput, match="Row 0"):
        texts_in(table, table, text="stars", label="words", target="number")

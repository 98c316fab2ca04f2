"""The report: what it says is what the library says, what data says stays text, and what is not there is told so."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st_app
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Dialog, Page, sync_playwright
from streamlit.testing.v1 import AppTest

from attribution import audit, effect, pipeline, report, wording
from attribution.audit import Audit
from attribution.changes import Changes
from attribution.debugger import Debugger
from attribution.errors import InvalidInput, StoreError
from attribution.report import charts, faces, run
from attribution.report.labels import SUSPECTS
from attribution.report.markup import STYLE, el, page, said, visible, written
from attribution.report.provenance import LIMITS, METHOD
from attribution.workspace import Workspace
from tests import disk

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
VOID = {"meta", "img"}
ADDRESSES = {"src", "href", "xlink:href", "action", "data", "srcset", "poster", "formaction", "background", "ping"}


@dataclass
class Section:
    """A part of a report: the text in it, piece by piece, and the attributes of its elements by tag."""

    pieces: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    @property
    def tight(self) -> str:
        """The text as it is read, without the spaces between pieces."""
        return "".join(self.pieces)


class Walk(HTMLParser):
    """Reads a report strictly: every element is closed, in order, and none but the expected ones are there."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.sections: dict[str, Section] = {"": Section()}
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self._at = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = {name: value or "" for name, value in attrs}
        assert len(named) == len(attrs), f"<{tag}> has an attribute twice"
        self.attributes += [(tag, name, value) for name, value in named.items()]
        if tag == "section":
            self._at = named["id"]
            self.sections[self._at] = Section()
        self.sections[self._at].elements.append((tag, named))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "section":
            self._at = ""

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.sections[self._at].pieces.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")


def of(workspace: Path, **options: Any) -> str:
    return report.render(Debugger.open(workspace), workspace, when=WHEN, **options)


# --- worlds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, tiny_workspace: Path) -> Path:
    """The digits with an audit, decisions of two people and a comparison. Not to be changed."""
    path = Path(shutil.copytree(tiny_workspace, tmp_path_factory.mktemp("full") / "digits"))
    workspace = Workspace(path)
    audit.make(workspace)
    debugger = Debugger.open(path)
    wrong = np.flatnonzero(debugger.train.labels != debugger.train.truth)
    right = {debugger.train.ids[i]: int(debugger.train.truth[i]) for i in wrong}
    changes = Changes.of(debugger.train, relabelled=right)
    focus = debugger.mistakes()[1].id
    effect.measure(workspace, pipeline.recorded_project(workspace), changes, start=0, focus=focus)
    first, second, third = list(right)[:3]
    flag = ["flag", "--workspace", path]
    for arguments in (
        [first, "--label", str(right[first]), "--by", "Ada", "--note", "<b>clearly</b> that"],
        [second, "--verdict", "keep", "--by", "Ada"],
        [second, "--label", str(right[second]), "--by", "Ben"],
        [third, "--verdict", "bad", "--by", "Ben"],
    ):
        assert disk.whence(*flag, *arguments).code == 0
    assert disk.whence("unflag", third, "--by", "Ben", "--workspace", path).code == 0
    return path


@pytest.fixture(scope="module")
def text(full: Path) -> str:
    return of(full)


@pytest.fixture(scope="module")
def sections(text: str) -> dict[str, Section]:
    return Walk(text).sections


HOSTILE: dict[str, Any] = {
    "name": '<img src=x onerror="alert(1)">',
    "classes": ["</script><script>alert(1)</script>", "javascript:alert('1')", "left\u202etfel\u2066 \u200f\u061c"],
    "text": "</style><script src='http://evil.example/x.js'></script>\x00\x1b[31m &lt;b&gt;",
    "id": "\"><svg onload=alert(1)>'",
    "reviewer": "<a href='javascript:alert(1)'>Eve</a>",
    "note": "</td></table><!-- &amp; \u202e http://evil.example/ ",
}
_HOSTILE_PROJECT = f"""
from attribution import LabelNoise
OPTIONS.update(
    name={HOSTILE["name"]!r}, classes={HOSTILE["classes"]!r}, modality="text", noise=LabelNoise(0.2),
    preview=lambda data, i: {HOSTILE["text"]!r} + str(i),
    train_ids=[{HOSTILE["id"]!r} + str(i) for i in range(48)], test_ids=["test" + {HOSTILE["id"]!r} + str(i)
    for i in range(18)],
)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report on a project of which every text is an attack."""
    _, workspace = disk.built(tmp_path_factory.mktemp("hostile"), _HOSTILE_PROJECT)
    audit.make(Workspace(workspace))
    id_ = f"{HOSTILE['id']}7"
    for options in (["--verdict", "keep", "--by", HOSTILE["reviewer"], "--note", HOSTILE["note"]], ["--by", "Ben"]):
        answer = disk.whence("flag", id_, "--workspace", workspace, *options)
        assert answer.code == 0, answer.err
    return of(workspace)


# --- what kind of file it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["text", "hostile"])
def test_it_is_whole_html_without_script_or_address(which: str, request: pytest.FixtureRequest) -> None:
    walk = Walk(request.getfixturevalue(which))
    assert not walk.tags & {"script", "link", "iframe", "object", "embed", "base", "form", "input", "audio", "video"}
    assert not [found for found in walk.attributes if found[1].startswith("on") or found[1] == "style"]
    ids = {value for _, name, value in walk.attributes if name == "id"}
    for tag, name, value in walk.attributes:
        if name in ADDRESSES:
            assert (tag, name) in {("img", "src"), ("a", "href")}
            assert value.startswith("data:image/") if name == "src" else value[1:] in ids
    assert all(named.get("alt") for tag, named in walk.sections["mistakes"].elements if tag == "img")


def test_the_policy_allows_its_one_style_and_pictures_as_data(text: str) -> None:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.replace("&#x27;", "'").startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;")
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_what_is_hostile_stays_text(hostile: str) -> None:
    walk = Walk(hostile)
    everything = "".join("".join(section.pieces) for section in walk.sections.values())
    for what in ("name", "id", "reviewer"):
        assert HOSTILE[what] in everything, what
    assert "</script><script>alert(1)</script>" in everything
    assert "http://evil.example/x.js" in everything
    assert "svg onload" not in hostile.replace("&gt;&lt;svg onload", "")


def test_what_nobody_sees_is_written_out(hostile: str) -> None:
    assert "left⟨U+202E⟩tfel⟨U+2066⟩" in hostile
    assert "⟨U+0000⟩⟨U+001B⟩[31m" in hostile
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", hostile)


@given(st.text())
@example('"><script>alert(1)</script>')
@example("' onerror=alert(1) x='")
@example("\ud800\x00\u202e")
def test_any_text_comes_back_as_text(text: str) -> None:
    picture = el("img", src="data:image/png;base64,", alt=text)
    document = page("t", [el("p", "⟦", said(text, longest=10**6), "⟧", picture)])
    document.encode()  # a lone surrogate would have no bytes
    walk = Walk(document)
    assert walk.tags == {"html", "head", "meta", "title", "style", "body", "p", "bdi", "img"}
    assert walk.sections[""].tight.split("⟦", 1)[1].rsplit("⟧", 1)[0] == visible(text)
    assert walk.sections[""].elements[-1] == ("img", {"src": "data:image/png;base64,", "alt": visible(text)})


def test_a_text_that_is_too_long_is_cut_and_says_so() -> None:
    assert written(said("x" * 1000, longest=10)) == f"<bdi>{'x' * 10}… (1,000 characters)</bdi>"


def test_no_text_is_without_end_and_no_drawing_is_cut() -> None:
    name, path = "x" * 10**6, "M1 1h0" * 10**5
    assert len(page(name, [el("p", name), el("img", src="data:image/png;base64,", alt=name)])) < 100_000
    assert path in written(el("path", d=path))


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("script", {}),
        ("p", {"onclick": "x"}),
        ("p", {"style": "x"}),
        ("a", {"href": "javascript:alert(1)"}),
        ("img", {"src": "https://evil.example/x.png"}),
        ("img", {"src": "data:text/html,x"}),
    ],
)
def test_the_tree_itself_refuses_what_leads_out(tag: str, attributes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"has no place in a report|leads out of the report"):
        el(tag, **attributes)


def test_the_same_material_gives_the_same_bytes_but_for_the_date(full: Path, text: str) -> None:
    later = report.render(Debugger.open(full), full, when=datetime(2027, 1, 2, tzinfo=UTC))
    assert later == text.replace("2026-11-23 12:00 UTC", "2027-01-02 00:00 UTC")


def test_it_names_no_path_of_this_machine(full: Path, text: str) -> None:
    assert str(full.parent) not in text
    assert str(Path.home()) not in text
    assert "--workspace work/digits" in text


def test_asking_for_it_changes_nothing(full: Path) -> None:
    before = disk.everything(full)
    of(full)
    assert disk.everything(full) == before


def test_it_stays_small(text: str) -> None:
    assert len(text.encode()) < 1_000_000


# --- its figures are those of the library -----------------------------------------------------------------------------


def test_the_head_has_the_figures_of_the_run(full: Path, sections: dict[str, Section]) -> None:
    debugger, head = Debugger.open(full), sections[""].text
    assert f"{debugger.n_mistakes} of 100 test pictures are wrong" in head
    assert f"{100 * debugger.accuracy:.1f} %" in head
    assert debugger.planted is not None
    assert debugger.planted.sentence in head
    assert effect.open_comparison(Workspace(full)).verdict in head


def test_the_matrix_is_the_confusion_matrix(full: Path, text: str) -> None:
    found = re.search(r'<table class="matrix">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    assert found is not None
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", found[1])
    shown = np.array([0 if cell == "·" else int(cell) for cell in cells]).reshape(10, 10)
    np.testing.assert_array_equal(shown, Debugger.open(full).confusion())


def test_too_many_classes_to_draw_are_a_list(tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_CLASSES_IN_A_MATRIX", 9)
    found = Walk(of(tiny_workspace)).sections["confused"].text
    assert "10 classes are too many to draw" in found
    (first,) = Debugger.open(tiny_workspace).clusters(1)
    assert f"given label predicted test examples {first.label} {first.predicted} {first.count}" in found


def test_the_worst_mistakes_stand_in_their_order_with_their_evidence(full: Path) -> None:
    debugger = Debugger.open(full)
    section = Walk(of(full, mistakes=2)).sections["mistakes"]
    for item in debugger.mistakes()[:2]:
        evidence = debugger.evidence(item.id, k=run.BESIDE_A_MISTAKE)
        at = section.pieces.index(item.id)
        supports, opposes = section.pieces.index("▲ Supports", at), section.pieces.index("▼ Opposes", at)
        for rows, start in ((evidence.proponents, supports), (evidence.opponents, opposes)):
            for row in rows:
                start = section.pieces.index(row.item.id, start)
                assert f" {wording.percentile(row.percentile)}" in section.pieces[start - 2 : start]
    assert debugger.mistakes()[2].id not in section.pieces


def test_every_sign_is_a_glyph_and_a_word(sections: dict[str, Section]) -> None:
    for name in ("mistakes", "focus"):
        pieces = [piece for piece in sections[name].pieces if "supports" in piece or "opposes" in piece]
        assert {"▲ supports", "▼ opposes"} <= set(pieces)


def test_the_mistake_of_the_comparison_is_shown_in_full(full: Path, sections: dict[str, Section]) -> None:
    debugger = Debugger.open(full)
    item = debugger.mistakes()[1]
    shown = sections["focus"]
    assert item.id in shown.pieces
    for target in ("predicted", "label"):
        evidence = debugger.evidence(item.id, target=target, k=run.IN_FULL)
        assert evidence.standout.sentence in shown.text
        assert {row.item.id for row in (*evidence.proponents, *evidence.opponents)} <= set(shown.pieces)
    evidence = debugger.evidence(item.id, k=run.IN_FULL)
    for kind in debugger.distance_kinds:
        assert debugger.distance_plot(evidence, kind).caption in shown.text


def test_another_example_can_be_asked_for(full: Path) -> None:
    debugger = Debugger.open(full)
    right = next(id_ for id_ in debugger.test.ids if not debugger.item(id_).is_mistake)
    shown = Walk(of(full, focus=right)).sections["focus"]
    assert right in shown.pieces
    assert "the model is right" in shown.text
    assert "What speaks for the label" not in shown.text


def test_suspects_stand_in_the_order_of_the_audit(full: Path, sections: dict[str, Section]) -> None:
    found = Audit.open(Debugger.open(full), full)
    shown = sections["suspects"]
    at = [shown.pieces.index(each.item.id) for each in found.suspects(found.order()[:SUSPECTS])]
    assert at == sorted(at)
    assert all(each.reason in shown.pieces for each in found.suspects(found.order()[:SUSPECTS]))
    curve = found.found_by()
    assert curve is not None
    assert f"finds {100 * curve[30]:.0f} % of the 30 flipped on purpose" in shown.text


def test_decisions_are_counted_and_listed_with_their_reasons(sections: dict[str, Section]) -> None:
    shown = sections["decisions"]
    assert (
        "2 examples looked at: 1 decided, 1 disputed, 0 open. 5 events on record, 1 of them taken back." in shown.text
    )
    assert "1 disagreement, listed first." in shown.text
    assert "Ada 1 1 0 0 0 Ben 1 0 0 0 0" in shown.text
    assert "“<b>clearly</b> that”" in shown.tight
    assert shown.pieces.index("⚑ disputed") < shown.pieces.index("✓ decided")


def test_the_effect_is_that_of_the_comparison(full: Path, sections: dict[str, Section]) -> None:
    found, shown = effect.open_comparison(Workspace(full)), sections["effect"].text
    for sentence in (found.verdict, found.control_did, found.focus and found.focus.sentence):
        assert sentence
        assert sentence in shown
    for arm in found.arms.values():
        assert " ".join(f"{100 * value:.2f} %" for value in arm.per_seed("accuracy")) in shown
    for each in found.accuracy:
        interval = f"{wording.signed(100 * each.over_seeds.low, 2)} to {wording.signed(100 * each.over_seeds.high, 2)}"
        assert f"accuracy {each.arm} − {each.less} {wording.signed(100 * each.value, 2)} points {interval}" in shown
    assert {fate.id for fate in (*found.fixed[:5], *found.broken[:5])} <= set(sections["effect"].pieces)
    assert f"→ {found.classes[next(iter(found.changes.relabelled.values()))]}" in shown


def test_drawn_differences_lie_in_their_intervals(sections: dict[str, Section]) -> None:
    elements = sections["effect"].elements
    at = [i for i, (tag, _) in enumerate(elements) if tag == "circle"]
    assert len(at) == 6  # three differences, each in both of its intervals
    for i in at:
        line, point = elements[i - 1][1], elements[i][1]
        assert float(line["x1"]) <= float(point["cx"]) <= float(line["x2"])


def test_the_limits_are_those_of_the_readme(sections: dict[str, Section]) -> None:
    readme = re.sub(r"[*\s]+", " ", (disk.ROOT / "README.md").read_text())
    for sentence in (METHOD, *(f"{head} {rest}" for head, rest in LIMITS)):
        assert sentence in readme
    told = (disk.ROOT / "README.md").read_text().split("## How to read a score")[1].split("\n## ")[0]
    assert told.count("\n* ") == len(LIMITS)
    assert LIMITS[-1][1] in sections["limits"].text


def test_every_id_hash_and_seed_is_there(full: Path, sections: dict[str, Section]) -> None:
    debugger, workspace, shown = Debugger.open(full), Workspace(full), sections["again"]
    kinds = ("examples", "runs", "gradients", "indexes", "comparisons")
    wanted = {str(workspace.current(kind)) for kind in kinds} | {c.sha256 for c in debugger.checkpoints}
    assert wanted | {debugger.data_hash, debugger.test.fingerprint} <= set(shown.pieces)
    assert "seeds 0, 1, 2" in shown.text
    assert "kind uniform, seed 0, share 0.1" in shown.text


def test_the_commands_can_be_given(full: Path, sections: dict[str, Section]) -> None:
    (commands,) = [piece for piece in sections["again"].pieces if piece.startswith("python -m attribution build")]
    assert [line.split()[3] for line in commands.splitlines()] == ["build", "suspects", "retrain", "report"]
    focus = Debugger.open(full).mistakes()[1].id
    assert f"--seeds 3 --from 0 --focus {focus} --workspace work/digits" in commands
    assert f"--mistakes 12 --focus {focus} --workspace work/digits" in commands


# --- what is not there ------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_told_with_the_command_that_makes_it(tiny_workspace: Path) -> None:
    found = Walk(of(tiny_workspace)).sections
    for name, sentence, verb in (
        ("suspects", "There is no audit of the labels in digits yet.", "suspects"),
        ("decisions", "Nobody has decided anything yet.", "flag ID --label CLASS"),
        ("effect", "There is no comparison in digits yet.", "retrain"),
    ):
        wanted = f"{sentence} To make it: python -m attribution {verb} --workspace work/digits"
        assert found[name].text.endswith(wanted), name
        assert not [tag for tag, _ in found[name].elements if tag in ("img", "svg", "table")]
    commands = next(piece for piece in found["again"].pieces if piece.startswith("python"))
    assert "retrain" not in commands
    assert not (tiny_workspace / "flags.sqlite").exists()


def test_a_damaged_audit_is_told_and_the_rest_is_shown(full: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(full, tmp_path / "digits"))
    (file,) = path.glob("suspects/*/doubts.npy")
    disk.flip_byte(file, -1)
    found = Walk(of(path)).sections
    assert "doubts.npy of suspects/" in found["suspects"].text
    assert "2 examples looked at" in found["decisions"].text
    assert str(tmp_path) not in found["suspects"].text


def test_a_comparison_of_which_a_part_is_gone_is_told(full: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(full, tmp_path / "digits"))
    shutil.rmtree(next((path / "retrainings").iterdir()))
    told = Walk(of(path)).sections["effect"].text
    assert re.search(r"The retraining \w+ of the arm \w+ is gone\. To make it: python -m attribution retrain", told)


def test_without_truth_no_curve_is_drawn(tmp_path: Path) -> None:
    _, workspace = disk.built(tmp_path)
    audit.make(Workspace(workspace))
    found = Walk(of(workspace)).sections
    assert "Which labels are wrong is not known here" in found["suspects"].text
    assert not [tag for tag, _ in found["suspects"].elements if tag == "svg"]
    assert "flipped on purpose" not in found["suspects"].text


def test_a_model_without_a_mistake_has_none_to_show(tmp_path: Path) -> None:
    learnt = "OPTIONS['retrain'] = TrainingRecipe(epochs=40, batch_size=8, learning_rate=0.1, checkpoints=2, seed=1)"
    _, workspace = disk.built(
        tmp_path, "OPTIONS['test'] = OPTIONS['train'] = [TRAIN[i] for i in range(3)] * 20", learnt
    )
    found = Walk(of(workspace)).sections
    assert " 0 of 60 test pictures are wrong" in found[""].text
    assert "Every test example is predicted as it is labelled." in found["mistakes"].text
    assert "There is no mistake to look at." in found["focus"].text


# --- texts, rows and pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "preview", "shown"),
    [
        ("text", "'word ' * 200", "(1,000 characters)"),
        ("tabular", "{f'column {k}': k / 3 for k in range(9)}", "and 3 more"),
    ],
)
def test_what_is_no_picture_is_shown_in_short(tmp_path: Path, modality: str, preview: str, shown: str) -> None:
    _, workspace = disk.built(tmp_path, f"OPTIONS.update(modality={modality!r}, preview=lambda data, i: {preview})")
    found = Walk(of(workspace)).sections["mistakes"]
    assert shown in found.text
    assert not [tag for tag, _ in found.elements if tag == "img"]


def test_a_large_picture_is_kept_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (500, 400, 3), np.uint8)
    from attribution.modalities.image import preview

    url = faces.small_picture(preview(noise, None))  # type: ignore[arg-type]
    kind, _, encoded = url.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    assert max(Image.open(io.BytesIO(base64.b64decode(encoded))).size) == 96


@pytest.mark.parametrize(
    ("value", "shown"), [(100.0, "99.99th"), (99.996, "99.99th"), (99.91, "99.91th"), (99.86, "99.8th"), (0.0, "0.0th")]
)
def test_a_percentile_is_rounded_down(value: float, shown: str) -> None:
    assert wording.percentile(value) == shown


# --- drawings ---------------------------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    high = low + width
    if high - low < 1e-9 * abs(low):
        return
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 11
    slack = 1e-6 * max(abs(low), abs(high), width)
    assert all(low - slack <= value <= high + slack for value in found)


def test_triangles_lie_on_the_side_of_zero_that_they_point_to() -> None:
    distance, score = np.array([1, 2, 3], np.float32), np.array([5, -5, 0.1], np.float32)
    drawn = written(
        charts.influence_against_distance(
            distance, score, np.array([True, False, True]), [(1.0, 5.0, "up"), (2.0, -5.0, "down")],
            x_title="distance", label="a plot",
        )
    )  # fmt: skip
    zero = (charts._TOP + charts.HEIGHT - charts._BOTTOM) / 2
    places = re.findall(r'<path class="(up|down)" d="M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)L', drawn)
    tips, bases = ({kind: float(place[i]) for kind, *place in places} for i in (0, 1))
    assert tips["up"] < bases["up"] < zero < bases["down"] < tips["down"]
    assert 'role="img" aria-label="a plot"' in drawn


def test_points_that_fall_together_are_drawn_once() -> None:
    same = np.full(5000, 1.0, np.float32)
    drawn = written(
        charts.influence_against_distance(same, same, np.ones(5000, bool), [], x_title="distance", label="a plot")
    )
    assert len(drawn) < 5000


# --- the file and the command line ------------------------------------------------------------------------------------


def test_the_command_line_writes_it(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    answer = disk.whence("report", "--out", out, "--workspace", full, "--mistakes", 3, "--json").json()
    assert answer == {"out": str(out), "bytes": out.stat().st_size}
    shown = Walk(out.read_text()).sections
    assert "The 3 of " in shown["mistakes"].text
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_is_there_is_written_over_only_when_told_to(full: Path, tmp_path: Path) -> None:
    out = disk.write_text(tmp_path / "report.html", "mine")
    answer = disk.whence("report", "--out", out, "--workspace", full)
    assert (answer.code, out.read_text()) == (2, "mine")
    assert re.search(r"report\.html is there already\. Name another --out, or write over it with --force\.", answer.err)
    answer = disk.whence("report", "--out", out, "--workspace", full, "--force", "--mistakes", 1)
    assert answer.code == 0
    assert re.search(r"report\.html: [\d.]+ kB\.", answer.out.replace("\n", ""))
    assert out.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--out", "no/such/report.html"], r"^There is no folder no/such to write report\.html in\. Make it, or"),
        (["--out", "."], r"^\. is a folder\. Name a file: --out report\.html\."),
        (["--out", "/proc/report.html"], r"^/proc/report\.html cannot be written: .*\. Name another --out\."),
        (["--out", "a.html", "--mistakes", 0], r"^0 mistakes cannot be shown\. Ask for 1 to 100\."),
        (["--out", "a.html", "--mistakes", 101], r"^101 mistakes cannot be shown\. Ask for 1 to 100\."),
        (["--out", "a.html", "--focus", "test:999"], r"^There is no example “test:999”; ids look like test:0"),
        (["--out", "a.html", "--focus", "train:5"], r"^train:5 is a training example, .* such as test:0\."),
        (["--out", "a.html", "--workspace", "nowhere"], r"There is no project in the workspace nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(full: Path, options: list[Any], why: str) -> None:
    answer = disk.whence("report", "--workspace", full, *options)
    assert answer.code == 2
    assert re.search(why, answer.err)
    assert answer.err.count("\n") == 1
    assert not list(Path().iterdir())


def test_what_fails_half_way_leaves_the_file_before_as_it_was(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = disk.write_text(tmp_path / "report.html", "before")

    def fail(*_: Any, **__: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(report, "render", fail)
    with pytest.raises(ZeroDivisionError):
        report.write(full, out, force=True)
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_came_meanwhile_is_not_written_over(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    monkeypatch.setattr(report, "render", lambda *_, **__: out.write_text("theirs") and "ours")
    with pytest.raises(InvalidInput, match="is there already"):
        report.write(full, out)
    assert out.read_text() == "theirs"


def test_the_button_on_the_overview_gives_the_same_file(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        st_app, "download_button", lambda label, data, name, *_, **__: asked.append((label, data, name))
    )
    monkeypatch.setenv("WHENCE_WORKSPACE", str(full))
    app = AppTest.from_file(str(disk.ROOT / "app.py"), default_timeout=60).run()
    assert not app.exception
    ((label, made, name),) = asked
    assert (label, name) == ("Download the report", "report.html")
    assert _dateless(made().decode()) == _dateless(of(full))
    monkeypatch.setattr(report, "render", _damaged)
    assert "<p>A block of &lt;b&gt; is damaged.</p><p>Embed again.</p>" in made().decode()


def _damaged(*_: object) -> str:
    raise StoreError("A block of <b> is damaged.", "Embed again.")


def _dateless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", text)


# --- in a browser -----------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 800, "height": 900}, color_scheme="dark")
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("which", ["text", "hostile"])
def test_opened_from_disk_it_asks_nobody_and_shows_everything(
    tab: Page, tmp_path: Path, which: str, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "report.html"
    out.write_bytes(request.getfixturevalue(which).encode())
    asked: list[str] = []
    said_by_it: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        said_by_it.append(dialog.message)
        dialog.dismiss()

    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said_by_it.append(message.text))
    tab.on("dialog", dismiss)
    tab.goto(f"file://{out}")
    assert [url for url in asked if not url.startswith("data:image/")] == [f"file://{out}"]
    assert said_by_it == []
    pictures = tab.evaluate("[...document.images].map(picture => picture.naturalWidth)")
    assert all(pictures)
    assert bool(pictures) == (which == "text")
    assert tab.evaluate("document.documentElement.scrollWidth") == 800
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 22, 20)"
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.emulate_media(media="screen")

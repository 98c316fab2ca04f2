"""Influence by word against autograd loops and central differences, in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attribution.errors import InvalidInput, Unsuited
from attribution.explain import Point, pair_influence
from attribution.readings import shared_words, words_read
from attribution.tokens import saliency, token_values, word_pairs, word_table
from tests.worlds import assert_close, labels_for, loop_gradients, random, shuffled_weights, task_of

WEIGHTS = [0.1, 0.05]
TRAIN, QUERY = torch.tensor([[3, 1, 4, 1, 5, 0, 0]]), torch.tensor([[2, 5, 1, 3]])


class Reader(nn.Module):
    """Embeddings, a convolution and a smooth pooling that leaves padding out, unless told: numbers (B, T) → (B, 3)."""

    def __init__(self, *, reads_padding: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 4, padding_idx=0)
        self.phrases = nn.Conv1d(4, 5, 3, padding=1)
        self.output = nn.Linear(5, 3)
        self.reads_padding = reads_padding

    def forward(self, numbers: Tensor) -> Tensor:
        return self.above(self.words(numbers), ((numbers != 0) | self.reads_padding).double())

    def above(self, vectors: Tensor, there: Tensor) -> Tensor:
        x = torch.tanh(self.phrases((vectors * there[:, :, None]).transpose(1, 2))) * there[:, None]
        return self.output(x.sum(2) / there.sum(1, keepdim=True))


class FromVectors(Reader):
    """The same network where something else has looked the words up."""

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return self.above(vectors, mask.double())


class World:
    """A network at two points of its training, and one text on either side."""

    def __init__(self, model: nn.Module) -> None:
        self.models: list[Any] = [shuffled_weights(copy.deepcopy(model), seed=seed) for seed in range(2)]
        for each in self.models:
            each.words.weight.data[0] = 0
        self.task = task_of(self.models[0])
        self.tracked = [name for name, _ in self.models[0].named_parameters()]

    def point(self, inputs: Any, label: int) -> Point:
        return Point(inputs, torch.full((1,), label), self.task.losses)

    def sides(self) -> tuple[Point, Point]:
        return self.point(TRAIN, 0), self.point(QUERY, 2)

    def influence(self, factor: Any = 1.0, *, of: str = "train", tracked: list[str] | None = None) -> float:
        """The influence with the word vectors of one side made `factor` (T, 1) times as long."""
        total = 0.0
        for model, weight in zip(self.models, WEIGHTS, strict=True):
            gradients = []
            for side, point in zip(("train", "query"), self.sides(), strict=True):
                parameters = [dict(model.named_parameters())[name] for name in tracked or self.tracked]
                # Added and not multiplied: the table's own gradient is not stretched with its vectors.
                shift = model.words.register_forward_hook(
                    lambda m, a, out, s=side: out + (factor - 1) * out.detach() if s == of else out
                )
                loss = self.task.losses(model, point.inputs, point.label).sum()
                gradients.append(torch.autograd.grad(loss, parameters))
                shift.remove()
            total += weight * sum(float((a * b).sum()) for a, b in zip(*gradients, strict=True))
        return total


@pytest.fixture(scope="module")
def world() -> World:
    return World(Reader())


@pytest.mark.parametrize("of", ["train", "query"])
@pytest.mark.parametrize("tracked", [None, ["output.weight"], ["words.weight"]])
def test_a_words_value_is_the_slope_of_the_influence_in_its_length(
    world: World, of: str, tracked: list[str] | None
) -> None:
    names = tracked or world.tracked
    found = token_values(world.models, WEIGHTS, names, *world.sides())[0 if of == "train" else 1][0]
    step, n = 1e-5, len(found)
    wanted = np.zeros(n)
    for t in range(n):
        move = torch.zeros(n, 1, dtype=torch.float64)
        move[t] = step
        wanted[t] = (
            world.influence(1 + move, of=of, tracked=names) - world.influence(1 - move, of=of, tracked=names)
        ) / (2 * step)
    assert np.abs(wanted).max() > 1e-3
    assert_close(found, wanted, 1e-6)


@pytest.mark.parametrize("of", ["train", "query"])
def test_the_values_add_up_to_the_slope_when_all_words_are_made_longer(world: World, of: str) -> None:
    found = token_values(world.models, WEIGHTS, world.tracked, *world.sides())[0 if of == "train" else 1]
    slope = (world.influence(1 + 1e-5, of=of) - world.influence(1 - 1e-5, of=of)) / 2e-5
    assert found.sum() == pytest.approx(slope, rel=1e-4)


def test_padding_has_no_value(world: World) -> None:
    found, _ = token_values(world.models, WEIGHTS, world.tracked, *world.sides())
    assert found[0, 5:].tolist() == [0, 0]


def test_several_training_texts_at_once_have_the_values_of_each_alone(world: World) -> None:
    texts, labels = torch.tensor([[3, 1, 4, 0], [2, 2, 5, 1], [1, 0, 0, 0]]), torch.tensor([0, 1, 2])
    query = world.sides()[1]
    together, of_query = token_values(
        world.models, WEIGHTS, world.tracked, Point(texts, labels, world.task.losses), query
    )
    alone = [
        token_values(world.models, WEIGHTS, world.tracked, world.point(texts[i : i + 1], int(labels[i])), query)
        for i in range(3)
    ]
    assert_close(together, np.concatenate([train for train, _ in alone]), 1e-6)
    assert_close(of_query, sum(of for _, of in alone), 1e-6)


def test_vectors_that_come_as_input_have_the_values_of_those_looked_up(world: World) -> None:
    names = [name for name in world.tracked if name != "words.weight"]
    models: list[nn.Module] = []
    for model in world.models:
        models.append(FromVectors().double())
        models[-1].load_state_dict(model.state_dict())
    for c, model in enumerate(world.models):  # the vectors differ by checkpoint, so one at a time
        sides = [
            Point({"vectors": model.words(p.inputs).detach(), "mask": p.inputs != 0}, p.label, p.functional)
            for p in world.sides()
        ]
        found = token_values([models[c]], [1.0], names, *sides)
        wanted = token_values([model], [1.0], names, *world.sides())
        assert_close(found[0], wanted[0], 1e-6)
        assert_close(found[1], wanted[1], 1e-6)


def test_saliency_is_the_slope_of_the_loss_with_its_sign_turned(world: World) -> None:
    model, (_, query) = world.models[0], world.sides()
    vectors = model.words(query.inputs).detach()
    there = torch.ones_like(query.inputs, dtype=torch.float64)

    def loss(factor: Tensor) -> float:
        logits = model.above(vectors * factor, there)
        return float(nn.functional.cross_entropy(logits, query.label).detach())

    wanted = np.zeros(4)
    for t in range(4):
        move = torch.zeros(4, 1, dtype=torch.float64)
        move[t] = 1e-5
        wanted[t] = -(loss(1 + move) - loss(1 - move)) / 2e-5
    assert_close(saliency(model, query)[0], wanted, 1e-6)


# --- word pairs -------------------------------------------------------------------------------------------------------


def test_pairs_of_words_are_products_of_the_rows_of_a_loop_of_autograd(world: World) -> None:
    """TracIn-WE: Σ_c w_c e_c(w, z) · e_c(w, z'), e_c the gradient by the word's row, summed over where it stands."""
    pairs = word_pairs(world.models, WEIGHTS, world.tracked, *world.sides())
    assert pairs is not None
    for word in range(6):
        of_word = np.equal.outer(TRAIN[0].numpy(), [word] * 4) & np.equal.outer([word] * 7, QUERY[0].numpy())
        wanted = 0.0
        for model, weight in zip(world.models, WEIGHTS, strict=True):
            rows = [
                loop_gradients(world.task, model, ["words.weight"], p.inputs, p.label)["words.weight"][0, word]
                for p in world.sides()
            ]
            wanted += weight * float(rows[0] @ rows[1])
        assert pairs[of_word].sum() == pytest.approx(wanted, abs=1e-7)
    assert np.count_nonzero(pairs) == 4  # 3 and 5 once on both sides, 1 twice and once


def test_all_pairs_together_are_the_influence_through_the_word_embeddings(world: World) -> None:
    pairs = word_pairs(world.models, WEIGHTS, world.tracked, *world.sides())
    whole = pair_influence(world.models, WEIGHTS, ["a", "b"], world.tracked, str, *world.sides())
    assert pairs is not None
    assert pairs.sum() == pytest.approx({s.name: s.value for s in whole.by_layer}["words.weight"], rel=1e-5)


def test_padding_is_no_shared_word_even_where_the_model_reads_it() -> None:
    """The table's row for padding has no gradient, though the loss has one at the vectors that stand there."""
    world = World(Reader(reads_padding=True))
    sides = world.sides()[0], world.point(torch.tensor([[2, 5, 0, 0]]), 2)
    pairs = word_pairs(world.models, WEIGHTS, world.tracked, *sides)
    whole = pair_influence(world.models, WEIGHTS, ["a", "b"], world.tracked, str, *sides)
    assert pairs is not None
    assert np.flatnonzero(pairs.any(1)).tolist() == [4]
    assert pairs.sum() == pytest.approx({s.name: s.value for s in whole.by_layer}["words.weight"], rel=1e-5)


def test_texts_that_share_no_word_have_no_influence_through_their_words(world: World) -> None:
    apart = world.point(torch.tensor([[2, 2]]), 1)
    pairs = word_pairs(world.models, WEIGHTS, world.tracked, world.sides()[0], apart)
    assert pairs is not None
    assert not pairs.any()


def test_without_tracked_word_embeddings_there_are_no_pairs(world: World) -> None:
    assert word_pairs(world.models, WEIGHTS, ["output.weight"], *world.sides()) is None
    assert word_table(world.models[0], ["output.weight"]) is None
    assert word_table(nn.Linear(2, 2), ["weight"]) is None


def test_a_model_without_words_is_refused_with_a_sentence() -> None:
    model = nn.Linear(4, 3).double()
    point = Point(random(1, 4), labels_for(1), task_of(model).losses)
    with pytest.raises(Unsuited, match=r"no nn\.Embedding and reads no vectors"):
        saliency(model, point)


def test_shared_words_are_summed_over_where_they_stand_and_unknown_ones_are_one_word() -> None:
    pairs = np.array([[2.0, 0, 0], [0, -5, 0], [1, 0, 0]], np.float32)
    found = shared_words(["Good", "odd", "good"], ["good", "queer", "end"], pairs)
    assert [(word.word, word.value, word.train, word.query) for word in found] == [
        ("", -5, (1,), (1,)),
        ("good", 3, (0, 2), (0,)),
    ]


def test_words_that_the_project_cannot_name_are_told_with_the_row() -> None:
    project: Any = SimpleNamespace(tokens=lambda value: value.words)
    split: Any = SimpleNamespace(value=lambda i: "a text", examples=SimpleNamespace(split="test"))
    with pytest.raises(
        InvalidInput, match=r"^tokens\(\), given row 7 of the test set, raised AttributeError: .+ Try it"
    ):
        words_read(project, split, 7)

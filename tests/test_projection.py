"""Projections against exact inner products: what each keeps, how far it strays, and that it comes back unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution import projection, store
from attribution.errors import InvalidInput, StoreError
from attribution.examples import Examples
from attribution.files import write_tensors
from attribution.forms import Dense, MatrixGradient, Outer, Positions, Rows
from attribution.gradients import GradientEngine
from attribution.projection import (
    CountSketch,
    DenseRandom,
    Eigenbasis,
    FittedEigenbasis,
    Projection,
    ProjectionSpec,
    TwoSided,
)
from attribution.store import EmbedRecipe
from attribution.task import Split, Task, input_hash
from tests.worlds import (
    assert_close,
    assert_orthonormal,
    assert_unbiased,
    assert_variance,
    digits_project,
    pearson,
    random,
    trained_cnn,
)

Blocks = Sequence[MatrixGradient]
SHAPES = [("dense", 3, 4), ("outer", 5, 7), ("positions", 4, 6)]
P = 3 * 4 + 5 * 7 + 4 * 6
EVERY: list[ProjectionSpec] = [
    Eigenbasis(dimension=20, sample=8),
    DenseRandom(dimension=20),
    DenseRandom(dimension=20, entries="gaussian"),
    CountSketch(dimension=20),
    TwoSided(2, 3),
]


def blocks(n: int, *, seed: int = 0) -> Blocks:
    """Random float32 gradients of n examples in one block of every form."""
    x = [random(n, *shape, seed=10 * seed + i).float() for i, shape in enumerate([(3, 4), (7,), (5,), (3, 5), (3, 4)])]
    return [Dense(x[0]), Outer(x[1], x[2]), Positions(Rows(x[3]), x[4], bias=True)]


def written_out(gradients: Sequence[MatrixGradient]) -> Tensor:
    """The whole gradients in float64, (B, P)."""
    return torch.cat([g.dense().flatten(1).double() for g in gradients], 1)


def rows_of(gradients: Sequence[MatrixGradient], rows: slice) -> Blocks:
    return [Dense(g.dense()[rows]) for g in gradients]


def fitted(spec: ProjectionSpec, *, sample: Blocks | None = None) -> Projection:
    batches = [blocks(8, seed=s) for s in (1, 2)] if sample is None else [sample]
    return spec.fit(SHAPES, lambda: batches)


def inner(a: Tensor, b: Tensor) -> Tensor:
    return a.double() @ b.double().T


# --- the eigenbasis ---------------------------------------------------------------------------------------------------


def test_a_complete_basis_keeps_every_inner_product() -> None:
    found = fitted(Eigenbasis(dimension=P))
    a, b = blocks(6, seed=3), blocks(9, seed=4)
    assert found.dimension == P
    assert_close(inner(found.project(a), found.project(b)), inner(written_out(a), written_out(b)), 1e-5)


def test_more_dimensions_than_entries_are_as_many_as_there_are_entries() -> None:
    assert fitted(Eigenbasis(dimension=10 * P)).dimension == P


@pytest.mark.parametrize("dimension", [1, 7, P])
def test_the_basis_is_orthonormal_on_both_sides(dimension: int) -> None:
    for name, columns in fitted(Eigenbasis(dimension=dimension)).tensors().items():
        if name.startswith(("left.", "right.")):
            assert_orthonormal(columns)


def test_a_truncated_basis_keeps_the_coordinates_of_largest_energy() -> None:
    sample = blocks(20, seed=1)
    every = fitted(Eigenbasis(dimension=P), sample=sample).project(sample).square().sum(0)
    kept = fitted(Eigenbasis(dimension=12), sample=sample).project(sample).square().sum(0)
    assert_close(kept.sort().values, every.sort().values[-12:], 1e-4)


@pytest.mark.parametrize("dimension", [1, 12, 40, P])
def test_the_leading_coordinates_of_a_basis_are_the_basis_of_so_many(dimension: int) -> None:
    wide, asked = fitted(Eigenbasis(dimension=50)), blocks(4, seed=3)
    assert isinstance(wide, FittedEigenbasis)
    found, wanted = wide.leading(dimension), fitted(Eigenbasis(dimension=min(dimension, 50)))
    assert bytes_of(found) == bytes_of(wanted)
    order = wide.by_energy()[:dimension]
    assert_close(found.project(asked).square().sum(), wide.project(asked)[:, order].square().sum(), 1e-4)


def bytes_of(found: Projection) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in found.tensors().items()}


def test_a_basis_that_was_read_back_does_not_pretend_to_know_an_order() -> None:
    found = fitted(Eigenbasis(dimension=20))
    restored = Eigenbasis().restore(SHAPES, found.tensors())
    with pytest.raises(InvalidInput, match="A basis from a store does not know which coordinates matter most"):
        restored.leading(5)


def test_the_basis_makes_both_moments_diagonal_on_the_sample() -> None:
    (gradient,) = sample = [Dense(random(30, 3, 4).float())]
    found = Eigenbasis(dimension=12).fit([("only", 3, 4)], lambda: [sample])
    rotated = Dense(found.project([gradient]).reshape(30, 3, 4))
    for moment in (rotated.left_moment(), rotated.right_moment()):
        off_diagonal = moment - torch.diag(moment.diagonal())
        assert_close(off_diagonal / moment.norm(), torch.zeros_like(moment), 1e-5)
        assert_close(moment.diagonal(), moment.diagonal().sort(descending=True).values, 1e-5)


def test_the_size_of_the_sample_batches_does_not_change_the_basis() -> None:
    sample = blocks(12, seed=1)
    spec = Eigenbasis(dimension=15)
    whole = spec.fit(SHAPES, lambda: [sample])
    parts = spec.fit(SHAPES, lambda: [rows_of(sample, slice(0, 5)), rows_of(sample, slice(5, 12))])
    asked = blocks(4, seed=2)
    assert_close(parts.project(asked), whole.project(asked), 1e-4)


def test_directions_bound_the_eigenvectors_of_a_side() -> None:
    tensors = fitted(Eigenbasis(dimension=P, directions=2)).tensors()
    assert all(tensors[f"{side}.{b}"].shape[1] <= 2 for side in ("left", "right") for b in range(3))


# --- a side too wide to be decomposed whole ---------------------------------------------------------------------------


def wide_sample(rank: int, *, decay: float = 0.7) -> list[Blocks]:
    """Gradients of 3 × 90 whose rows lie in a space of few dimensions, of decaying importance."""
    directions = random(rank, 90, seed=1) * (decay ** torch.arange(rank))[:, None]
    return [[Dense((random(10, 3, rank, seed=s) @ directions).float())] for s in (2, 3)]


def fit_wide(sample: list[Blocks], dimension: int, directions: int) -> Projection:
    return Eigenbasis(dimension, directions=directions).fit([("wide", 3, 90)], lambda: sample)


def test_a_sketched_side_spans_what_the_exact_one_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = wide_sample(rank=9)
    exact = fit_wide(sample, 3 * 9, 9).tensors()["right.0"].double()
    monkeypatch.setattr(projection, "_WIDEST_EXACT", 50)
    sketched = fit_wide(sample, 3 * 9, 9).tensors()["right.0"].double()
    assert_orthonormal(sketched.float())
    assert_close(sketched @ sketched.T, exact @ exact.T, 1e-4)


def test_a_sketched_side_has_the_leading_eigenvalues_of_the_exact_one_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_WIDEST_EXACT", 50)
    sample = wide_sample(rank=80, decay=0.9)
    columns = fit_wide(sample, 3 * 12, 12).tensors()["right.0"].double()
    moment = sum(gradient.right_moment().double() for batch in sample for gradient in batch)
    exact = torch.linalg.eigvalsh(moment).flip(0)[:12]  # type: ignore[arg-type]
    assert_close((columns.T @ moment @ columns) / exact[0], torch.diag(exact / exact[0]), 1e-3)


def test_a_sketched_side_keeps_the_inner_products_that_the_exact_one_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = wide_sample(rank=80)
    a, b = sample[0], wide_sample(rank=80)[1]
    exact = fit_wide(sample, 30, 12)
    monkeypatch.setattr(projection, "_WIDEST_EXACT", 50)
    sketched = fit_wide(sample, 30, 12)
    found, wanted = (inner(each.project(a), each.project(b)) for each in (sketched, exact))
    assert_close(found, wanted, 1e-3)


def test_a_sketch_may_be_wider_than_the_side_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_WIDEST_EXACT", 50)
    sample = wide_sample(rank=80)
    found = fit_wide(sample, 270, 200)
    a, b = sample
    assert_close(inner(found.project(a), found.project(b)), inner(written_out(a), written_out(b)), 1e-4)


# --- fidelity on a trained network ------------------------------------------------------------------------------------


@cache
def exact_and_projected(spec: ProjectionSpec) -> tuple[Tensor, Tensor]:
    """Inner products of 100 held-out queries with the training rows that the basis was not fitted on."""
    world = trained_cnn()
    engine = GradientEngine(world.task, world.task.model(), (world.inputs[:8], world.labels[:8]))
    engine.model.load_state_dict(world.model.state_dict())
    found = spec.fit(engine.shapes, lambda: [engine.gradients(world.inputs[:150], world.labels[:150]).gradients])
    train = engine.gradients(world.inputs[150:], world.labels[150:])
    query = engine.gradients(world.held_out, world.held_out_labels)
    return inner(query.dense(), train.dense()), inner(found.project(query.gradients), found.project(train.gradients))


@pytest.mark.parametrize(("dimension", "wanted"), [(128, 0.99), (256, 0.997), (512, 0.9995)])
def test_a_truncated_basis_is_nearly_exact_on_a_trained_network(dimension: int, wanted: float) -> None:
    exact, projected = exact_and_projected(Eigenbasis(dimension))
    assert pearson(exact, projected) >= wanted


def test_the_eigenbasis_is_more_faithful_than_dense_random_numbers_of_the_same_size() -> None:
    eigen, dense = (pearson(*exact_and_projected(spec)) for spec in (Eigenbasis(128), DenseRandom(128)))
    assert eigen > dense


# --- back from disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_a_restored_projection_gives_the_same_numbers(spec: ProjectionSpec) -> None:
    found, asked = fitted(spec), blocks(6, seed=5)
    restored = spec.restore(SHAPES, found.tensors())
    assert torch.equal(restored.project(asked), found.project(asked))
    assert torch.equal(restored.coordinate_blocks, found.coordinate_blocks)


def test_a_basis_is_refused_by_a_model_of_other_shapes() -> None:
    tensors = fitted(Eigenbasis(20)).tensors()
    with pytest.raises(StoreError, match=r"basis of outer is for a 5 × 7 block, the model has 5 × 8.*Embed again"):
        Eigenbasis(20).restore([SHAPES[0], ("outer", 5, 8), SHAPES[2]], tensors)


@pytest.mark.parametrize("shapes", [SHAPES[:2], [*SHAPES, ("more", 2, 2)]])
def test_a_basis_is_refused_by_a_model_with_other_blocks(shapes: list[tuple[str, int, int]]) -> None:
    tensors = fitted(Eigenbasis(20)).tensors()
    with pytest.raises(StoreError, match=rf"is for 3 blocks of parameters, the model has {len(shapes)}.*Embed again"):
        Eigenbasis(20).restore(shapes, tensors)


# --- random projections: unbiased, and as variable as the formulas say ------------------------------------------------

DRAWS = 3000


def estimates(
    make: Callable[[int], ProjectionSpec], a: Blocks, b: Blocks, shapes: Sequence[tuple[str, int, int]]
) -> NDArray[np.float64]:
    """The estimated inner product of one example with another under many seeds."""
    projections = [make(seed).fit(shapes, list) for seed in range(DRAWS)]
    return np.array([float(inner(p.project(a), p.project(b))) for p in projections])


A, B = [Dense(random(1, 3, 4, seed=1).float())], [Dense((random(1, 3, 4, seed=1) + random(1, 3, 4, seed=2)).float())]
ONE = [("only", 3, 4)]


@cache
def dense_estimates(entries: str, dimension: int) -> NDArray[np.float64]:
    return estimates(lambda seed: DenseRandom(dimension, entries, seed), A, B, ONE)  # type: ignore[arg-type]


def predicted_variance(entries: str, dimension: int) -> float:
    """(‖a‖²‖b‖² + ⟨a, b⟩²)/k for a Gaussian, less 2 Σ a²b²/k for Rademacher entries (METHODS-A, T-RP)."""
    a, b = written_out(A)[0], written_out(B)[0]
    total = a.square().sum() * b.square().sum() + (a @ b) ** 2
    if entries == "rademacher":
        total = total - 2 * (a * b).square().sum()
    return float(total) / dimension


@pytest.mark.parametrize("entries", ["gaussian", "rademacher"])
@pytest.mark.parametrize("dimension", [8, 32])
def test_a_dense_random_projection_is_unbiased(entries: str, dimension: int) -> None:
    assert_unbiased(dense_estimates(entries, dimension), float(inner(written_out(A), written_out(B))))


@pytest.mark.parametrize("entries", ["gaussian", "rademacher"])
@pytest.mark.parametrize("dimension", [8, 32, 128])
def test_a_dense_random_projection_varies_as_the_formula_says(entries: str, dimension: int) -> None:
    assert_variance(dense_estimates(entries, dimension), predicted_variance(entries, dimension))


@pytest.mark.parametrize("entries", ["gaussian", "rademacher"])
def test_the_variance_falls_as_one_over_the_dimension(entries: str) -> None:
    times_k = [dense_estimates(entries, k).var() * k for k in (8, 32, 128)]
    assert max(times_k) / min(times_k) <= 1.1


@pytest.mark.parametrize("dimension", [8, 32])
def test_a_count_sketch_is_unbiased_and_varies_as_the_formula_says(dimension: int) -> None:
    """The variance is that of Rademacher entries."""
    found = estimates(lambda seed: CountSketch(dimension, seed), A, B, ONE)
    assert_unbiased(found, float(inner(written_out(A), written_out(B))))
    assert_variance(found, predicted_variance("rademacher", dimension))


def test_a_count_sketch_is_unbiased_across_blocks() -> None:
    a, b = blocks(1, seed=1), blocks(1, seed=2)
    found = estimates(lambda seed: CountSketch(8, seed), a, b, SHAPES)
    assert_unbiased(found, float(inner(written_out(a), written_out(b))))


def test_a_dense_random_projection_is_unbiased_across_blocks() -> None:
    a, b = blocks(1, seed=1), blocks(1, seed=2)
    found = estimates(lambda seed: DenseRandom(8, seed=seed), a, b, SHAPES)
    assert_unbiased(found, float(inner(written_out(a), written_out(b))))


def test_dense_random_numbers_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn in parts, the projection is still unbiased: no part repeats another's numbers."""
    monkeypatch.setattr(projection.FittedDense, "_ENTRIES_AT_ONCE", 5 * 8)
    found = estimates(lambda seed: DenseRandom(8, "gaussian", seed), A, B, ONE)
    assert_unbiased(found, float(inner(written_out(A), written_out(B))))
    assert_variance(found, predicted_variance("gaussian", 8))


OUTER_A = [Outer(random(1, 9, seed=1).float(), random(1, 6, seed=2).float())]
OUTER_B = [Outer((random(1, 9, seed=1) + random(1, 9, seed=3)).float(), (random(1, 6, seed=2) * 0.8).float())]


@cache
def two_sided_estimates(rows: int, columns: int) -> NDArray[np.float64]:
    return estimates(lambda seed: TwoSided(rows, columns, seed), OUTER_A, OUTER_B, [("only", 6, 9)])


def test_a_two_sided_projection_is_unbiased() -> None:
    assert_unbiased(two_sided_estimates(3, 4), float(inner(written_out(OUTER_A), written_out(OUTER_B))))


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (5, 2), (6, 4), (3, 9)])
def test_a_two_sided_projection_varies_as_the_formula_says(rows: int, columns: int) -> None:
    """(mx² + sx)(my² + sy) − mx² my² of the two sides' means and variances; a side kept whole has no variance."""

    def side(x: Tensor, y: Tensor, k: int) -> tuple[float, float]:
        x, y = x[0].double(), y[0].double()
        mean = x @ y
        spread = 0.0 if len(x) <= k else (x.square().sum() * y.square().sum() + mean**2) / k
        return float(mean) ** 2, float(spread)

    (a,), (b,) = OUTER_A, OUTER_B
    assert isinstance(a, Outer)
    assert isinstance(b, Outer)
    (mx, sx), (my, sy) = side(a.deltas, b.deltas, rows), side(a.inputs, b.inputs, columns)
    assert_variance(two_sided_estimates(rows, columns), (mx + sx) * (my + sy) - mx * my, tolerance=0.15)


def test_a_two_sided_projection_is_exact_where_both_sides_are_small() -> None:
    a, b = blocks(6, seed=1), blocks(7, seed=2)
    found = fitted(TwoSided(5, 7))
    assert_close(inner(found.project(a), found.project(b)), inner(written_out(a), written_out(b)), 1e-6)


# --- what holds for all of them ---------------------------------------------------------------------------------------


def reseeded(spec: ProjectionSpec, seed: int) -> ProjectionSpec:
    return type(spec)(**{**vars(spec), "seed": seed})


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_the_same_seed_gives_the_same_numbers(spec: ProjectionSpec) -> None:
    torch.manual_seed(1)
    first = fitted(reseeded(spec, 5)).project(blocks(4))
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002  whatever the global generators do
    assert torch.equal(fitted(reseeded(spec, 5)).project(blocks(4)), first)


@pytest.mark.parametrize("spec", EVERY[1:], ids=str)
def test_another_seed_gives_other_numbers(spec: ProjectionSpec) -> None:
    one, other = (fitted(reseeded(spec, seed)).project(blocks(4)) for seed in (5, 6))
    assert float((one - other).abs().mean()) > 0.1 * float(one.abs().mean())


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_the_number_of_coordinates_is_the_dimension(spec: ProjectionSpec) -> None:
    found = fitted(spec)
    assert found.project(blocks(4)).shape == (4, found.dimension)
    assert found.coordinate_blocks.shape == (found.dimension,)


@pytest.mark.parametrize("spec", [Eigenbasis(40), Eigenbasis(P), TwoSided(2, 3), TwoSided(5, 7)], ids=str)
def test_a_coordinate_belongs_to_the_only_block_that_moves_it(spec: ProjectionSpec) -> None:
    found = fitted(spec)
    nothing = [Dense(torch.zeros(2, rows, columns)) for _, rows, columns in SHAPES]
    for b in range(3):
        moved = found.project([blocks(2)[i] if i == b else nothing[i] for i in range(3)]).abs().amax(0) > 0
        assert torch.equal(moved, found.coordinate_blocks == b)


def test_dense_random_coordinates_belong_to_no_single_block() -> None:
    assert fitted(DenseRandom(20)).coordinate_blocks.tolist() == [-1] * 20


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_a_row_is_projected_alike_in_any_batch(spec: ProjectionSpec) -> None:
    found, gradients = fitted(spec), blocks(6)
    alone = torch.cat([found.project(rows_of(gradients, slice(i, i + 1))) for i in range(6)])
    assert_close(alone, found.project(gradients), 1e-5)


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_projecting_is_linear(spec: ProjectionSpec) -> None:
    found, a, b = fitted(spec), blocks(3, seed=1), blocks(3, seed=2)
    both = [Dense(2 * x.dense() - y.dense()) for x, y in zip(a, b, strict=True)]
    assert_close(found.project(both), 2 * found.project(a) - found.project(b), 1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Eigenbasis(dimension=0), "dimension is 0, and must be at least 1"),
        (lambda: Eigenbasis(sample=-3), "sample is -3, and must be at least 1"),
        (lambda: Eigenbasis(fidelity=1.0), "fidelity is 1, and must be between 0 and 1. Ask for 0.99"),
        (lambda: Eigenbasis(directions=0), "directions is 0, and must be at least 1"),
        (lambda: DenseRandom(dimension=-1), "dimension is -1, and must be at least 1"),
        (lambda: TwoSided(rows=0), "rows is 0, and must be at least 1"),
        (lambda: TwoSided(columns=0), "columns is 0, and must be at least 1"),
        (lambda: DenseRandom(entries="sparse"), "Entries “sparse” are not known. Use gaussian or rademacher"),  # type: ignore[arg-type]
    ],
)
def test_an_impossible_option_is_refused(make: Callable[[], ProjectionSpec], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        make()


# --- gradients that are not finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [3, 200])
def test_a_gradient_that_is_not_finite_is_named_before_it_spoils_the_basis(row: int, tmp_path: Path) -> None:
    project = digits_project()
    train: list[tuple[Tensor, int]] = project.train
    train[row] = (train[row][0] * float("inf"), train[row][1])
    task = Task(project)
    path = tmp_path / "weights.safetensors"
    write_tensors(path, trained_cnn().model.state_dict())
    with pytest.raises(StoreError, match=rf"training example train:{row} \(row {row}\) is not finite"):
        store.embed(task, [path], _split(train, task), EmbedRecipe(Eigenbasis(16, sample=300)), tmp_path)


def _split(train: Sequence[tuple[Tensor, int]], task: Task) -> Split:
    labels = np.array([label for _, label in train])
    ids = tuple(f"train:{i}" for i in range(len(train)))
    hashes = tuple(input_hash(value) for value, _ in train)
    return Split(Examples("train", ids, labels, labels, hashes, tuple(map(str, range(10)))), train, task)

"""What a store writes: float16 rows with an exponent of their own keep inner products, and nothing overflows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attribution import blocks, index, pipeline
from attribution.debugger import Debugger
from attribution.errors import StoreError
from attribution.store import GradientStore
from attribution.workspace import Workspace
from tests import disk


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project file and its built workspace, in float32."""
    return disk.built(tmp_path_factory.mktemp("stripes"))


@pytest.fixture(scope="module")
def half(stripes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a float16 store and its index beside the others, and current."""
    workspace = Path(shutil.copytree(stripes[1], tmp_path_factory.mktemp("half") / "work"))
    assert disk.whence("embed", "--dtype", "float16", "--workspace", workspace).code == 0
    assert disk.whence("index", "--workspace", workspace).code == 0
    return workspace


def opened(workspace: Path) -> GradientStore:
    target = Workspace(workspace)
    id_ = target.current("gradients")
    assert id_
    return GradientStore(target.folder("gradients", id_), target.manifest("gradients", id_))


def rows(seed: int, n: int = 40, d: int = 512) -> NDArray[np.float32]:
    """Rows whose numbers lie six powers of ten apart, as the coordinates of a fitted basis do."""
    chance = np.random.default_rng(seed)
    return (chance.standard_normal((n, d)) * 10 ** chance.uniform(-6, 0, d)).astype(np.float32)


# --- the law of float16 -----------------------------------------------------------------------------------------------


@given(st.integers(-120, 110), st.integers(0, 2**32 - 1))
def test_inner_products_of_halved_rows_differ_by_less_than_a_thousandth_of_the_norms(power: int, seed: int) -> None:
    """At any size that float32 holds: 2^-120 vanishes in float16 itself, and 2^110 would be infinite there."""
    x = np.ldexp(rows(seed), power)
    back = blocks.restored(*blocks.halved(x)).astype(np.float64)
    exact = x.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    assert np.isfinite(back).all()
    assert (np.linalg.norm(back - exact, axis=1) <= 2.0**-11 * norms).all()
    one_side = np.abs(back @ exact.T - exact @ exact.T)  # a query is not halved
    assert (one_side <= 5e-4 * np.outer(norms, norms)).all()
    assert (np.abs(back @ back.T - exact @ exact.T) <= 1e-3 * np.outer(norms, norms)).all()


def test_rows_of_very_different_size_keep_their_own_precision() -> None:
    x = rows(0) * np.float32(10) ** np.linspace(-30, 15, 40, dtype=np.float32)[:, None]
    back = blocks.restored(*blocks.halved(x))
    error = np.linalg.norm((back - x).astype(np.float64), axis=1)
    assert (error <= 2.0**-11 * np.linalg.norm(x.astype(np.float64), axis=1)).all()


def test_a_row_of_zeros_is_a_row_of_zeros() -> None:
    x = np.zeros((3, 5), np.float32)
    x[1, 2] = 1e-44  # the smallest that float32 holds at all
    stored, exponents = blocks.halved(x)
    assert exponents.tolist()[::2] == [0, 0]
    np.testing.assert_array_equal(blocks.restored(stored, exponents)[::2], 0)
    np.testing.assert_allclose(blocks.restored(stored, exponents)[1, 2], 1e-44, rtol=0.5)


def test_whole_powers_of_two_are_kept_exactly() -> None:
    x = np.ldexp(np.float32(1), np.arange(-20, 1))[None].astype(np.float32)
    np.testing.assert_array_equal(blocks.restored(*blocks.halved(x)), x)


def test_a_row_is_stored_the_same_whatever_is_beside_it() -> None:
    """Hence an interrupted pass ends with the same bytes, and nothing is fitted that could be lost."""
    x = rows(1)
    together, exponents = blocks.halved(x)
    for i in range(len(x)):
        alone, exponent = blocks.halved(x[i : i + 1])
        assert alone.tobytes() == together[i].tobytes()
        assert exponent[0] == exponents[i]


# --- a store of it ----------------------------------------------------------------------------------------------------


def test_the_default_recipe_has_no_new_key_and_its_store_the_old_format(stripes: tuple[Path, Path]) -> None:
    (manifest,) = (json.loads(path.read_text()) for path in (stripes[1] / "gradients").glob("*/manifest.json"))
    assert set(manifest["recipe"]) == {"projection", "layers"}
    assert manifest["format"] == 1
    assert set(manifest["facts"]) == {
        "blocks", "parameters", "dimension", "projection_sha256", "checkpoints", "projection", "layers",
    }  # fmt: skip


def test_a_float16_store_is_half_as_large_and_of_a_format_that_older_versions_refuse(
    stripes: tuple[Path, Path], half: Path
) -> None:
    wide, narrow = opened(stripes[1]), opened(half)
    sizes = [(s.folders[0] / "vectors.npy").stat().st_size - 128 for s in (wide, narrow)]
    assert sizes[0] == 2 * sizes[1] == 4 * 48 * wide.dimension
    for name in ("squared_norms", "losses"):
        files = [s.folders[0] / f"{name}.npy" for s in (wide, narrow)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert json.loads((narrow.folders[0].parent / "manifest.json").read_text())["format"] == 2


def test_a_float16_store_reads_as_float32_close_to_the_other(stripes: tuple[Path, Path], half: Path) -> None:
    wide, narrow = opened(stripes[1]), opened(half)
    for c in range(2):
        found, exact = narrow.vectors(c), wide.vectors(c)
        assert found.dtype == np.float32
        assert (np.linalg.norm(found - exact, axis=1) <= 2.0**-11 * np.linalg.norm(exact, axis=1)).all()
        np.testing.assert_array_equal(narrow.vectors(c, np.array([3, 1])), found[[3, 1]])
    np.testing.assert_array_equal(narrow.rows(slice(5, 9)), np.concatenate([narrow.vectors(c)[5:9] for c in (0, 1)], 1))


def test_answers_from_float16_are_those_from_float32(stripes: tuple[Path, Path], half: Path, tmp_path: Path) -> None:
    wide, narrow = Debugger.open(stripes[1]), Debugger.open(half)
    for i in range(wide.n_test):
        a, b = (d.evidence(f"test:{i}", target="label") for d in (wide, narrow))
        spread = np.abs(a.scores).max()
        np.testing.assert_allclose(b.scores, a.scores, atol=1e-3 * spread)
        assert a.proponents[0].item.id == b.proponents[0].item.id
    index.build(opened(half), tmp_path)
    searched = index.VectorIndex(tmp_path).extremes(narrow.query_vector("test:0", target="label"), 48)
    dense = narrow.evidence("test:0", target="label").scores
    np.testing.assert_allclose(searched.proponent_scores, dense[searched.proponents], rtol=1e-4, atol=1e-6)


def test_one_wrong_byte_in_an_exponent_is_found_and_mended(half: Path, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(half, tmp_path / "work"))
    before = disk.contents(workspace)
    disk.flip_byte(opened(workspace).folders[1] / "exponents.npy", -5)
    assert disk.whence("mistakes", "--workspace", workspace).code == 2
    assert disk.whence("embed", "--dtype", "float16", "--workspace", workspace).code == 0
    assert disk.contents(workspace) == before


def test_a_store_in_another_type_is_refused_by_name(stripes: tuple[Path, Path]) -> None:
    answer = disk.whence("embed", "--dtype", "int8", "--workspace", stripes[1])
    assert (answer.code, answer.err) == (2, "Gradients are not stored as “int8”. Use float32 or float16.\n")


def embedded(folder: Path, size: str, dtype: str) -> NDArray[np.float32]:
    """Vectors at the first checkpoint of a float64 project whose loss is `size` times the usual one."""
    lines = (
        "OPTIONS['loss'] = lambda logits, labels: "
        f"{size} * nn.functional.cross_entropy(logits, labels, reduction='none')",
        "OPTIONS['retrain'] = TrainingRecipe(epochs=1, batch_size=8, learning_rate=1e-30, checkpoints=1)",
        "OPTIONS['model'] = lambda: model().double()",
        "class Cast(Stripes):",
        "    def __getitem__(self, i): return self.pictures[i].double(), int(self.labels[i])",
        "OPTIONS['train'], OPTIONS['test'] = Cast(0, 48), Cast(1000, 18)",
    )
    target = Workspace(folder / "work")
    project = pipeline.record_project(target, disk.write_project(folder, *lines))
    pipeline.train(target, project)
    pipeline.embed(target, project, pipeline.embed_recipe(project, projection="two-sided", dtype=dtype))
    return opened(target.path).vectors(0)


@pytest.mark.parametrize("size", ["1e-15", "1e12"])
def test_gradients_beyond_what_float16_holds_are_kept(tmp_path: Path, size: str) -> None:
    """In plain float16 the small ones vanish and the large ones are infinite."""
    exact, found = (embedded(tmp_path / dtype, size, dtype).astype(np.float64) for dtype in blocks.DTYPES)
    norms = np.linalg.norm(exact, axis=1)
    assert (norms > 0).all()
    assert (np.linalg.norm(found - exact, axis=1) <= 2.0**-11 * norms).all()


@pytest.mark.parametrize("dtype", blocks.DTYPES)
def test_gradients_beyond_what_float32_holds_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(StoreError, match=r"^The gradient of training example train:0 \(row 0\) is not finite\."):
        embedded(tmp_path, "1e25", dtype)

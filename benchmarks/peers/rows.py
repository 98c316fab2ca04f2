"""The rows of the comparison: which class answers, and what has to be known to read its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from benchmarks.peers.setting import BATCH, NUMBERS, WIDE_NUMBERS

GRADIENT_PRODUCT = "gradient product"  # what fidelity is measured for
ANOTHER = "another quantity"


@dataclass(frozen=True)
class Row:
    """One method of one library.

    answers   module and class in this package.
    name      as the table has it.
    covers    the parameters whose gradients it uses.
    quantity  what its scores are.
    note      what was chosen for it, in one sentence.
    library   its name on the package index, whose version is recorded; "" for none.
    own       the one parameter it restricts itself to; "" for all of them.
    uses      which checkpoints.
    """

    answers: str
    name: str
    covers: str
    quantity: str
    note: str
    library: str = ""
    own: str = ""
    uses: str = "all"

    def peer(self) -> Any:
        """The class that answers; importing it imports its library."""
        module, _, name = self.answers.partition(".")
        return getattr(import_module(f"benchmarks.peers.{module}"), name)


_AGAIN = "keeps nothing, so every set of queries runs the training set again"

ROWS: Mapping[str, Row] = {
    "plain": Row(
        "plain.Plain",
        "training loss",
        "—",
        ANOTHER,
        "No attribution: one forward and backward pass per checkpoint is the unit of cost, and the loss at the last "
        "one is the ranking to beat.",
    ),
    "exact": Row(
        "exact.Exact", "autograd by hand", "all", GRADIENT_PRODUCT, f"torch.func, batches of {BATCH}; {_AGAIN}."
    ),
    "whence": Row(
        "whence.Whence",
        "Whence",
        "all",
        GRADIENT_PRODUCT,
        f"TracIn with its defaults: eigenbasis of {NUMBERS} numbers; one query is a FAISS search both ways.",
    ),
    "captum": Row(
        "captum.Whole",
        "captum TracInCP",
        "all",
        GRADIENT_PRODUCT,
        f"sample_wise_grads_per_batch, batches of {BATCH}; {_AGAIN}.",
        "captum",
    ),
    "captum-fast": Row(
        "captum.Fast",
        "captum TracInCPFast",
        "last layer, no bias",
        GRADIENT_PRODUCT,
        f"Batches of {BATCH}; {_AGAIN}.",
        "captum",
        "output.weight",
    ),
    "captum-projected": Row(
        "captum.Projected",
        "captum TracInCPFastRandProj",
        "last layer, no bias",
        GRADIENT_PRODUCT,
        "projection_dim large enough that the layer's 640 products are kept whole; Annoy with its 10 trees, in memory; "
        "scores of all examples are had only as a ranking of all.",
        "captum",
        "output.weight",
    ),
    "trak": Row(
        "trak.Trak",
        "TRAK",
        "all",
        ANOTHER,
        f"BasicProjector with proj_dim {NUMBERS} in one block, float32, batches of {BATCH}; self-influence is the "
        "diagonal, taken from its stored features.",
        "traker",
    ),
    "kronfluence-identity": Row(
        "kronfluence.Identity",
        "kronfluence identity",
        "all",
        GRADIENT_PRODUCT,
        f"Batches of {BATCH}; {_AGAIN}.",
        "kronfluence",
    ),
    "kronfluence-ekfac": Row(
        "kronfluence.Ekfac",
        "kronfluence EK-FAC",
        "all",
        ANOTHER,
        f"True Fisher, default damping, at the last checkpoint; batches of {BATCH}; keeps factors and no gradients.",
        "kronfluence",
    ),
    "dattri-tracin": Row(
        "dattri.TracIn",
        "dattri TracIn",
        "all",
        GRADIENT_PRODUCT,
        f"Whole gradients, batches of {BATCH}; {_AGAIN}.",
        "dattri",
    ),
    "dattri-tracin-projected": Row(
        "dattri.ProjectedTracIn",
        "dattri TracIn projected",
        "all",
        GRADIENT_PRODUCT,
        f"Gaussian projection to {NUMBERS} numbers, batches of {BATCH}; {_AGAIN}.",
        "dattri",
    ),
    "dattri-trak": Row(
        "dattri.Trak",
        "dattri TRAK",
        "all",
        ANOTHER,
        f"Gaussian projection to {NUMBERS} numbers, batches of {BATCH}; the training side is cached in memory.",
        "dattri",
    ),
    "bergson": Row(
        "bergson.Bergson", "bergson", "all", GRADIENT_PRODUCT, "Made for causal language models.", "bergson"
    ),
}
CHANGE, WIDE, TRAK = "whence-change", "whence-wide", "whence-trak"
_TRACIN = "TracIn: learning rates weigh the checkpoints"
_ENSEMBLE = "The checkpoints of the one run in place of models trained by themselves"


def _again(row: str, note: str, **others: str) -> Row:
    return replace(ROWS[row], note=note, **others)


# Those whose scores are held against retrained models. All are asked about the margin, as TRAK always is.
AGREEING: Mapping[str, Row] = {
    "plain": ROWS["plain"],
    CHANGE: Row(
        "whence.Change",
        "Whence, default lens",
        "all",
        ANOTHER,
        "What the app takes for “What would change this prediction?”: influence in the stored space with its defaults, "
        "the mean of all checkpoints, on the same index as TracIn.",
    ),
    WIDE: Row(
        "whence.Wide",
        f"Whence, default lens, {WIDE_NUMBERS:,} numbers",
        "all",
        ANOTHER,
        f"The same with `embed --dimension {WIDE_NUMBERS}` in place of {NUMBERS}: three times the disk.",
    ),
    TRAK: Row(
        "whence.Trak",
        "Whence TRAK",
        "all",
        ANOTHER,
        f"On the same index; {_ENSEMBLE[0].lower()}{_ENSEMBLE[1:]}.",
    ),
    "whence": _again("whence", f"{_TRACIN}; eigenbasis of {NUMBERS} numbers.", name="Whence TracIn"),
    "exact": _again("exact", f"{_TRACIN}."),
    "captum": _again("captum", f"{_TRACIN}. Its hooks where they know every layer; else batches of 16."),
    "captum-fast": _again("captum-fast", f"{_TRACIN}.", own=""),
    "kronfluence-identity": _again("kronfluence-identity", f"{_TRACIN}. It sees linear layers and 2-d convolutions."),
    "dattri-tracin": _again("dattri-tracin", f"{_TRACIN}."),
    "trak": _again("trak", f"{_ENSEMBLE}; {NUMBERS} numbers."),
    "dattri-trak": _again("dattri-trak", f"{_ENSEMBLE}; {NUMBERS} numbers."),
    "kronfluence-ekfac": _again(
        "kronfluence-ekfac",
        "True Fisher, default damping (1e-8). It sees linear layers and 2-d convolutions.",
        uses="last",
    ),
    "kronfluence-ekfac-damped": _again(
        "kronfluence-ekfac",
        "The same with its heuristic for damping, a tenth of the mean eigenvalue.",
        answers="kronfluence.DampedEkfac",
        name="kronfluence EK-FAC, damped",
        uses="last",
    ),
    "kronfluence-ekfac-mean": _again(
        "kronfluence-ekfac",
        "The same at every checkpoint, and the mean of the scores, as we do; its documentation has one model.",
        answers="kronfluence.MeanEkfac",
        name="kronfluence EK-FAC, damped, mean",
    ),
    "bergson": ROWS["bergson"],
}
KNOWN: Mapping[str, Row] = {**ROWS, **AGREEING}  # a row of both has the same class in either
OURS = ("plain", "exact", "whence", CHANGE, WIDE, TRAK)  # they run in our own environment

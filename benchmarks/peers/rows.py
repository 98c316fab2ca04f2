"""The rows of the comparison: which class answers, and what has to be known to read its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.peers.setting import BATCH, NUMBERS

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
    """

    answers: str
    name: str
    covers: str
    quantity: str
    note: str
    library: str = ""
    own: str = ""

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
OURS = ("plain", "exact", "whence")  # they run in our own environment

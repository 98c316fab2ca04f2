"""What training lowered, as a function of P real parameters of the final model, with its first and second derivatives.

    R(θ) = (1/N) Σ_i ℓ_i(θ) + (penalty / 2) ‖θ‖²            ∇ℓ_i (P,): without the penalty, as a method's g_i
    slope()          ∇R (P,)                                product(v)   ∇²R v (P,), by two backward passes
    along(vectors)   ⟨v, ∇ℓ_i⟩ of all N examples (V, N)     hessian()    ∇²R (P, P)

Nothing is projected. A product with the Hessian is Pearlmutter's (1994). The Gauss-Newton curvature (Schraudolph 2002)
leaves out of it how the outputs curve in the parameters, (1/N) Σ_i J_iᵀ ∇²ℓ_i J_i with ∇²ℓ_i by the outputs and J_i
(K, P) theirs by the parameters: for a loss that is convex in the outputs it is never below 0, and of one linear layer
it is the Hessian. The model is a copy in eval mode, in float64 where P is at most `SMALL`; a pass takes a few hundred
rows. P are all tracked parameters, or those of the last linear layer alone: that layer is then the model, and the
features it reads are the inputs. N train, Q queries, K outputs.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from attribution.errors import AttributionError, Unsuited
from attribution.forms import MatrixGradient
from attribution.gradients import GradientEngine
from attribution.probing import Block
from attribution.progress import Progress, silent
from attribution.single import single_gradients
from attribution.task import Functional, Inputs, Task

if TYPE_CHECKING:
    from attribution.methods.protocol import Queries

Part = Literal["head", "all"]  # the last linear layer, or every tracked parameter
Curved = Literal["hessian", "gauss-newton"]
Rows = slice | NDArray[np.int64]
SMALL = 8192  # parameters: up to here in float64, and (P, P) in memory is at most half a gigabyte
_ROWS = 256  # of a pass
COLUMNS = 64  # of a Hessian that is computed column by column
_SAMPLED = 512  # rows whose gradients are measured
_INNER = 8  # vectors: of more, gradients are formed, where so many numbers are held at once
_FORMED = 2**26
_PROBED = 8  # rows on which it is found out how each parameter is used
_FEW = 4  # on which the second derivatives are tried


class Objective:
    """The objective of one model.

    build    makes the model, at its weights and nobody else's, when it is first needed.
    names    of the parameters in it, in this order; size: P, how many numbers they are.
    train    some of the N training rows as the model is called with; labels (N,), numbers as float64.
    asked    queries as the model is called with.
    penalty  of ‖θ‖² / 2; what is called weight decay.
    """

    def __init__(
        self,
        task: Task,
        build: Callable[[], nn.Module],
        names: Sequence[str],
        size: int,
        train: Callable[[Rows], Inputs],
        labels: NDArray[Any],
        asked: Callable[[Queries], Inputs],
        *,
        penalty: float = 0.0,
    ) -> None:
        self.task, self.names, self.size, self.penalty = task, list(names), size, penalty
        self._build, self._train, self._asked = build, train, asked
        self._labels = torch.from_numpy(labels).to(task.device)
        self.prepared: dict[Any, Any] = {}  # by solvers and their options: kept as long as this
        self._is_checked = False
        self._lock = threading.RLock()  # a model may keep things while it runs

    def __len__(self) -> int:
        return len(self._labels)

    def on(self, rows: NDArray[np.int64], labels: NDArray[Any]) -> Objective:
        """The same model with some of the training rows (n,) only, labelled (n,)."""
        other, whole = copy.copy(self), self._train
        other.prepared = {}
        for known in ("unrest", "_pulls", "_engine"):
            other.__dict__.pop(known, None)
        other._train = lambda part: whole(rows[part])
        other._labels = torch.from_numpy(labels).to(self.task.device)
        return other

    @cached_property
    def _model(self) -> nn.Module:
        model = self._build().eval().requires_grad_(False)
        return model.double() if self.size <= SMALL else model

    @cached_property
    def _parameters(self) -> list[Tensor]:
        known = dict(self._model.named_parameters())
        return [known[name].requires_grad_() for name in self.names]

    @property
    def dtype(self) -> torch.dtype:
        return self._parameters[0].dtype

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of each of the parameters."""
        return [tuple(parameter.shape) for parameter in self._parameters]

    @property
    def matrices(self) -> list[str]:
        """Names of the parameters that multiply what a layer reads: weights of two dimensions or more, no tables."""
        tables = nn.Embedding | nn.EmbeddingBag | nn.LayerNorm | nn.RMSNorm
        other = {f"{name}.weight" for name, module in self._model.named_modules() if isinstance(module, tables)}
        pairs = zip(self.names, self.shapes, strict=True)
        return [name for name, shape in pairs if len(shape) > 1 and name not in other]

    @property
    def blocks(self) -> Sequence[Block]:
        """The parameters, by layer, as `by_layer` has their gradients."""
        with self._lock:
            return self._engine.blocks

    def by_layer(self, inputs: Inputs, labels: Tensor) -> Sequence[MatrixGradient]:
        """∇ℓ_i of examples as `batches` gives them, for each of `blocks`; nobody else uses the model meanwhile."""
        with self._lock:
            return self._engine.gradients(inputs, labels).gradients

    def outputs(self, inputs: Inputs) -> Tensor:
        """What the model says of examples as `batches` gives them, (B, K)."""
        with self._lock, torch.no_grad():
            return self.task.logits(self._engine.model, inputs)

    @cached_property
    def _engine(self) -> GradientEngine:
        """Gradients of single examples layer by layer, of a copy of the model; made and used under the lock."""
        model = copy.deepcopy(self._model).requires_grad_(False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.names)
        return GradientEngine(self.task, model, next(self.batches(np.arange(min(_PROBED, len(self))))))

    def batches(self, rows: NDArray[np.int64] | None = None, size: int = _ROWS) -> Iterator[tuple[Inputs, Tensor]]:
        """Inputs and labels of all rows or of some, as the model takes them, at most so many at a time."""
        rows = np.arange(len(self)) if rows is None else rows
        for part in _parts(len(rows), size):
            yield self._cast(self._train(rows[part])), self._labels[rows[part]]

    @property
    def is_linear(self) -> bool:
        """Whether the model is one linear layer, so that its Hessian has a closed form."""
        return isinstance(self._model, nn.Linear)

    @property
    def weights(self) -> NDArray[np.float64]:
        """θ (P,)."""
        return self._numbers(self._flat(self._parameters))

    # --- first derivatives --------------------------------------------------------------------------------------

    def gradients(self, queries: Queries) -> NDArray[np.float64]:
        """Of what is measured of the queries, (Q, P)."""
        labels = torch.from_numpy(queries.labels).to(self.task.device)
        inputs, functional = self._cast(self._asked(queries)), self.task.measure(queries.measure)
        with self._passes():
            found = [self._singles(tree_map(lambda t, part=part: t[part], inputs), labels[part], functional)
                     for part in _parts(len(queries))]  # fmt: skip
        return np.concatenate([*found, np.zeros((0, self.size))])

    def each(self, rows: Rows | None = None) -> Iterator[NDArray[np.float64]]:
        """∇ℓ_i of all rows or of some, a few hundred at a time: (n, P)."""
        for part in self._of(rows):
            with self._passes():
                inputs = self._cast(self._train(part))
                yield self._singles(inputs, self._labels[part], self.task.losses)

    def slope(self) -> NDArray[np.float64]:
        """∇R (P,)."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.task.device)
        with self._passes():
            for part in self._of(None):
                total += self._flat(self._slopes(self._losses(part).sum()))
        return self._numbers(total) / len(self) + self.penalty * self.weights

    @cached_property
    def unrest(self) -> float:
        """‖∇R‖ as a share of the mean ‖∇ℓ_i + penalty θ‖ of single examples: 0 where training has come to rest."""
        rows = np.unique(np.linspace(0, len(self) - 1, _SAMPLED).astype(np.int64))
        pull = self.penalty * self.weights
        norms = np.concatenate([np.linalg.norm(block + pull, axis=1) for block in self.each(rows)])
        mean = float(norms.mean())
        return float(np.linalg.norm(self.slope())) / mean if mean > 0 else 0.0

    def seconds_of_unrest(self) -> float:
        """What `unrest` will take, by a pass over a few rows; 0 where it is known."""
        if "unrest" in self.__dict__:
            return 0.0
        few = slice(0, min(_ROWS, len(self)))
        start = time.perf_counter()
        with self._passes():
            self._slopes(self._losses(few).sum())
        whole = (time.perf_counter() - start) * len(self) / few.stop
        start = time.perf_counter()
        next(self.each(few))
        return whole + (time.perf_counter() - start) * min(_SAMPLED, len(self)) / few.stop

    def along(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """⟨v, ∇ℓ_i⟩ for vectors (V, P), (V, N).

        Of one linear layer by what pulls at its outputs, computed once; else by the factors of each example's gradient,
        which is formed only where many vectors are asked about.
        """
        directions = self.tensor(vectors)
        if not len(directions):
            return np.zeros((0, len(self)))
        if self.is_linear:
            with self._passes():
                return self._numbers(torch.cat([self._along_linear(part, directions) for part in self._of(None)], 1))
        with self._lock:
            blocks = self._by_block(directions)
            found = [self._along(*batch, blocks) for batch in self.batches()]
        return self._numbers(torch.cat(found, 1))

    def _by_block(self, directions: Tensor) -> list[Tensor]:
        """(V, P) as matrices (V, R, C) of the engine's blocks."""
        parts = directions.split([math.prod(shape) for shape in self.shapes], 1)
        known = dict(zip(self.names, parts, strict=True))
        return [
            torch.cat([known[name].reshape(len(directions), block.rows, -1) for name in block.parameters], 2)
            for block in self.blocks
        ]

    def _along(self, inputs: Inputs, labels: Tensor, blocks: Sequence[Tensor]) -> Tensor:
        gradients = self.by_layer(inputs, labels)
        many = len(blocks[0]) > _INNER and len(labels) * self.size <= _FORMED
        parts = [
            matrices.flatten(1) @ gradient.dense().flatten(1).T
            if many
            else torch.stack([gradient.inner(matrix) for matrix in matrices])
            for gradient, matrices in zip(gradients, blocks, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def _along_linear(self, part: Rows, directions: Tensor) -> Tensor:
        """Σ_k pull_k ⟨v_k, h⟩ of the rows of a part, (V, n)."""
        inputs, pulls = self._cast(self._train(part)).detach(), self._pulls[part]
        K, F = pulls.shape[1], inputs.shape[1]
        weights = directions[:, : K * F].reshape(-1, F)  # (V · K, F)
        outputs = (inputs @ weights.T).reshape(len(inputs), -1, K)  # (n, V, K)
        if "bias" in self.names:
            outputs = outputs + directions[:, K * F :]
        return (outputs * pulls[:, None]).sum(2).T

    @cached_property
    def _pulls(self) -> Tensor:
        """∇ℓ_i by the outputs of one linear layer, (N, K)."""
        found = []
        for part in self._of(None):
            outputs = self._model(self._cast(self._train(part))).detach().requires_grad_()
            losses = self.task.losses(nn.Identity(), outputs, self._labels[part])
            found.append(torch.autograd.grad(losses.sum(), outputs)[0])
        return torch.cat(found)

    # --- second derivatives -------------------------------------------------------------------------------------

    def product(
        self, vector: NDArray[np.float64], rows: NDArray[np.int64] | None = None, curved: Curved = "hessian"
    ) -> NDArray[np.float64]:
        """∇²R · vector (P,), or the Gauss-Newton curvature's, of all rows or with the mean over some of them."""
        direction = self.tensor(vector)
        total = torch.zeros_like(direction)
        multiplied = self._by_hessian if curved == "hessian" else self._by_gauss_newton
        with self._passes():
            for part in self._of(rows):
                total += multiplied(part, direction)
        return self._numbers(total) / (len(self) if rows is None else len(rows)) + self.penalty * vector

    def _by_hessian(self, part: Rows, direction: Tensor) -> Tensor:
        slope = self._flat(self._slopes(self._losses(part).sum(), again=True))
        return self._flat(self._slopes(slope @ direction)) if slope.requires_grad else torch.zeros_like(direction)

    def _by_gauss_newton(self, part: Rows, direction: Tensor) -> Tensor:
        """Σ_i J_iᵀ ∇²ℓ_i J_i v: J v is the derivative of u ↦ Jᵀ u, which is linear, along v."""
        outputs = self.task.logits(self._model, self._cast(self._train(part)))
        dual = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, self._parameters, dual, create_graph=True, allow_unused=True, materialize_grads=True
        )
        (moved,) = torch.autograd.grad(self._flat(pulled) @ direction, dual, retain_graph=True)
        at = outputs.detach().requires_grad_()
        losses = self.task.losses(nn.Identity(), at, self._labels[part])
        (slopes,) = torch.autograd.grad(losses.sum(), at, create_graph=True)
        if not slopes.requires_grad:
            return torch.zeros_like(direction)
        (curved,) = torch.autograd.grad(slopes, at, moved)
        return self._flat(
            torch.autograd.grad(outputs, self._parameters, curved, allow_unused=True, materialize_grads=True)
        )

    def hessian(self, *, progress: Progress = silent) -> NDArray[np.float64]:
        """∇²R (P, P) of at most `SMALL` parameters: of one linear layer in closed form, else column by column."""
        total: Any = 0.0
        with self._passes():
            for part in self._of(None):
                progress(part.start if isinstance(part, slice) else 0, len(self), "second derivatives")
                total = total + (self._linear_part if self.is_linear else self._part_by_columns)(part)
        found = self._numbers(total) / len(self)
        found[np.diag_indices(self.size)] += self.penalty
        return (found + found.T) / 2

    def _linear_part(self, part: Rows) -> Tensor:
        """Σ_i A_i ⊗ h_i h_iᵀ in the order of weight and bias; A_i (K, K): second derivatives by the outputs."""
        inputs = self._cast(self._train(part)).detach()
        outputs = self._model(inputs).detach().requires_grad_()
        losses = self.task.losses(nn.Identity(), outputs, self._labels[part])
        (slopes,) = torch.autograd.grad(losses.sum(), outputs, create_graph=True)
        K = outputs.shape[1]
        curved = torch.stack([
            torch.autograd.grad(slopes[:, k].sum(), outputs, retain_graph=True, materialize_grads=True)[0]
            for k in range(K)
        ], 1) if slopes.requires_grad else outputs.new_zeros((len(outputs), K, K))  # fmt: skip
        has_bias = "bias" in self.names
        h = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1) if has_bias else inputs
        whole = torch.empty(K, h.shape[1], K, h.shape[1], dtype=h.dtype, device=h.device)
        for k in range(K):
            for j in range(k + 1):
                whole[k, :, j] = whole[j, :, k] = (h * curved[:, k, j, None]).T @ h  # symmetric
        if not has_bias:
            return whole.reshape(self.size, self.size)
        order = torch.arange(self.size, device=h.device).reshape(K, -1)  # rows of a weight, the bias its last column
        order = torch.cat([order[:, :-1].flatten(), order[:, -1]])
        return whole.reshape(self.size, self.size)[order][:, order]

    def _part_by_columns(self, part: Rows) -> Tensor:
        slope = self._flat(self._slopes(self._losses(part).sum(), again=True))
        if not slope.requires_grad:
            return slope.new_zeros((self.size, self.size))
        found, basis = [], torch.eye(self.size, dtype=slope.dtype, device=slope.device)
        for columns in basis.split(COLUMNS):
            try:
                many = torch.autograd.grad(slope, self._parameters, columns, retain_graph=True, is_grads_batched=True,
                                           allow_unused=True, materialize_grads=True)  # fmt: skip
                found.append(torch.cat([each.flatten(1) for each in many], 1))
            except RuntimeError:  # vmap has no rule for some layers
                found += [self._flat(self._slopes(slope @ v, again=True))[None].detach() for v in columns]
        return torch.cat(found)

    # --- passes -------------------------------------------------------------------------------------------------

    def _losses(self, part: Rows) -> Tensor:
        return self.task.losses(self._model, self._cast(self._train(part)), self._labels[part])

    def _singles(self, inputs: Inputs, labels: Tensor, functional: Functional) -> NDArray[np.float64]:
        found = single_gradients(self._model, self.names, inputs, labels, functional)
        return self._numbers(torch.cat([found[name].flatten(1) for name in self.names], 1))

    def _slopes(self, value: Tensor, *, again: bool = False) -> Sequence[Tensor]:
        return torch.autograd.grad(
            value, self._parameters, create_graph=again, retain_graph=again, allow_unused=True, materialize_grads=True
        )

    def _of(self, rows: Rows | None) -> Iterator[Rows]:
        if rows is None:
            yield from _parts(len(self))
        else:
            for part in _parts(len(self._labels[rows])):
                yield np.arange(len(self))[rows][part]

    @contextmanager
    def _passes(self) -> Iterator[None]:
        """Nobody else uses the model meanwhile, and what cannot be differentiated twice says so in a sentence."""
        try:
            with self._lock, torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels are not twice
                self._check()
                yield
        except AttributionError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            first = next(iter(str(error).splitlines()), "")
            raise Unsuited(f"The model cannot be differentiated twice: {first}.", "Ask by another method.") from error

    def _check(self) -> None:
        """Differentiate a few losses twice by every way there is: asked only for what leads to some inputs, autograd
        passes over what has no second derivative, and takes it for 0."""
        if not self._is_checked:
            slope = self._flat(self._slopes(self._losses(slice(0, min(_FEW, len(self)))).sum(), again=True))
            if slope.requires_grad:
                slope.sum().backward()  # type: ignore[no-untyped-call]
            for parameter in self._parameters:
                parameter.grad = None
        self._is_checked = True

    def _cast(self, inputs: Inputs) -> Inputs:
        return tree_map(lambda t: t.to(self.dtype) if isinstance(t, Tensor) and t.is_floating_point() else t, inputs)

    def tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.task.device, self.dtype)

    @staticmethod
    def _numbers(values: Tensor) -> NDArray[np.float64]:
        return values.detach().cpu().double().numpy()

    @staticmethod
    def _flat(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([value.flatten() for value in values])


def _parts(n: int, size: int = _ROWS) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def head(model: nn.Module, features: Tensor, outputs: Tensor) -> tuple[str, nn.Linear] | None:
    """The linear layer, and its name, that makes the outputs (B, K) of the features (B, F); None where none does."""
    for name, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear) and tuple(module.weight.shape) == (outputs.shape[1], features.shape[1]):
            with torch.no_grad():
                if torch.allclose(module(features), outputs, rtol=1e-4, atol=1e-4 * float(outputs.abs().max())):
                    return name, module
    return None

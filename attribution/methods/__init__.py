"""The methods, by name: a plain table. A new one is a file here and a line below.

The name of TracIn may say over which layers it sums: "tracin:words", or several with commas between them. The others
are no sums over layers: curvature and lengths are of whole gradients. Some have a second form, "influence:diagonal":
`FORMS` lists them, and what tells the forms of a method apart. Behind an @ a name may say the damping, of those that
have one: "hessian:cg@0.1".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from attribution.ekfac import EKFAC
from attribution.errors import InvalidInput
from attribution.methods.arnoldi import Arnoldi
from attribution.methods.cosine import Cosine
from attribution.methods.datainf import DataInf
from attribution.methods.hessian import Hessian
from attribution.methods.influence import Influence
from attribution.methods.loss import TrainingLoss
from attribution.methods.over_models import OverModels
from attribution.methods.protocol import Attributor
from attribution.methods.random import Random
from attribution.methods.relatif import RelatIF
from attribution.methods.representer import Representer
from attribution.methods.tracin import TracIn
from attribution.methods.trak import TRAK
from attribution.solving import ConjugateGradients, LiSSA, refuse_damping

METHODS: dict[str, type[Attributor]] = {
    TracIn.name: TracIn,
    Influence.name: Influence,
    RelatIF.name: RelatIF,
    Cosine.name: Cosine,
    TRAK.name: TRAK,
    DataInf.name: DataInf,
    Arnoldi.name: Arnoldi,
    Hessian.name: Hessian,
    Representer.name: Representer,
}

# What a method is held against: no answer to any question, and asked only where methods are compared.
BASELINES: dict[str, type[Attributor]] = {TrainingLoss.name: TrainingLoss, Random.name: Random}

FORMS: Mapping[str, tuple[Attributor, str]] = {
    "influence": (Influence(), "whole curvature"),
    "influence:diagonal": (Influence(curvature="diagonal"), "its diagonal (EK-FAC cut short)"),
    "influence:models": (OverModels(Influence()), "several models"),
    "relatif": (RelatIF(), "by the losses (ℓ)"),
    "relatif:parameters": (RelatIF(relative_to="parameters"), "by the parameters (θ)"),
    "cosine": (Cosine(), "by learning rate (GAS)"),
    "cosine:ones": (Cosine(weighting="ones"), "plain mean (CosIn)"),
    "trak": (TRAK(), "checkpoints of this model"),
    "trak:models": (OverModels(TRAK()), "several models"),
    "hessian": (Hessian(), "last layer, exact"),
    "hessian:all": (Hessian("all"), "all parameters, exact"),
    "hessian:ekfac": (Hessian("all", EKFAC()), "all parameters, EK-FAC"),
    "hessian:cg": (Hessian("all", ConjugateGradients()), "all parameters, conjugate gradients"),
    "hessian:lissa": (Hessian("all", LiSSA()), "all parameters, LiSSA"),
}


def over_layers(*layers: str) -> str:
    """The name of TracIn summed over some layers only; over all where none is named."""
    return f"{TracIn.name}:{','.join(layers)}" if layers else TracIn.name


def named(name: str) -> Attributor:
    """The method of a name, in the form, with the layers and the damping it says; raises `InvalidInput` for one not
    known, and for what has no damping."""
    name, _, damping = name.partition("@")
    return _with_damping(_named(name), damping) if damping else _named(name)


def lens_record(name: str) -> dict[str, Any]:
    """A method of a name with all its options, for recipes; raises `InvalidInput` for one that is not known."""
    return record(named(name))


def record(lens: Attributor) -> dict[str, Any]:
    """A method with all its options, for recipes."""
    return {"name": lens.name, **asdict(lens)}  # type: ignore[call-overload]


def damped(name: str, damping: float | None) -> str:
    """The name of a method with a damping, in its own units; as it is where none is given."""
    return name if damping is None else f"{name}@{damping!r}"


def _with_damping(method: Attributor, said: str) -> Attributor:
    if isinstance(method, OverModels):
        return OverModels(_with_damping(method.of, said))
    if not hasattr(method, "damping"):
        raise InvalidInput(
            f"{method.title} has no damping.",
            "Leave it away, or ask by influence, relatif, trak, datainf, arnoldi or hessian.",
        )
    try:
        damping = float(said)
    except ValueError:
        raise InvalidInput(f"A damping of “{said}” was asked for.", "Use a number.") from None
    refuse_damping(damping)
    return replace(method, damping=damping)  # type: ignore[type-var]


def _named(name: str) -> Attributor:
    if name in FORMS:
        return FORMS[name][0]
    method, _, layers = name.partition(":")
    known = METHODS | BASELINES
    if method not in known:
        raise InvalidInput(f"The method “{method}” is not known.", f"Use {', '.join(METHODS)}.")
    if not layers:
        return known[method]()
    if method != TracIn.name:
        raise InvalidInput(
            f"By {known[method]().title} all layers count together; only {TracIn.title} is a sum over layers.",
            f"Use {method}, or {TracIn.name}:{layers}.",
        )
    return TracIn(layers=tuple(layers.split(",")))

"""The options that verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


ProjectFile = Annotated[
    Path | None, typer.Argument(help="Project file; without it, the project recorded in the workspace.")
]


WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder of all results.  [default: work/<project>]")
]


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


JobOption = Annotated[str | None, typer.Option("--job", hidden=True)]


TargetOption = Annotated[
    str, typer.Option(help="Ask about the loss of the 'label' of the test example, or of the 'predicted' class.")
]


DeviceOption = Annotated[str, typer.Option(help="Where gradients are computed: cpu, cuda or cuda:0.")]


ProjectionOption = Annotated[
    str | None, typer.Option(help="eigenbasis (unless told), dense, count-sketch or two-sided.")
]


DimensionOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Numbers kept per example and checkpoint, 512 unless told; with --fidelity the most, 4096 unless told.",
    ),
]


FidelityOption = Annotated[
    float | None,
    typer.Option(help="Keep as few numbers as reach this correlation with exact scores, measured on held-out rows."),
]


DtypeOption = Annotated[str | None, typer.Option(help="float32 (unless told), or float16: half the disk.")]


MethodOption = Annotated[
    str,
    typer.Option(
        help="tracin, influence, relatif, cosine, trak, datainf, arnoldi, hessian or representer; tracin:LAYER sums "
        "over that layer only; influence:diagonal, relatif:parameters, cosine:ones, hessian:all, hessian:ekfac, "
        "hessian:cg and hessian:lissa are other forms; trak:models and influence:models ask the models of `ensemble`; "
        "loss and random are baselines."
    ),
]


DampingOption = Annotated[
    float | None,
    typer.Option(
        help="What is added to every curvature, for methods that have one: in units of the mean curvature, and for "
        "hessian in its own units.  [default: as the method chooses]"
    ),
]


QuestionOption = Annotated[
    str | None,
    typer.Option(
        help="change, imitating, copied or group: the question in words, which picks the method that was measured to "
        "answer it."
    ),
]


ByOption = Annotated[str | None, typer.Option("--by", help="Who decides; your login name unless given.")]


DEFAULT_WORKSPACE = Path("work/fashion")

"""Published results that were made again on shipped data: what a paper reports, what differs here, and the record.

    for experiment in EXPERIMENTS.values():
        record = experiment.record()      # what was measured, or None where no record is shipped

Records are written by `python -m benchmarks NAME`; `python -m benchmarks published` puts copies of them into `assets/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attribution.datasets import ASSETS

RECORDS = ASSETS / "published"


@dataclass(frozen=True)
class Experiment:
    """One published result.

    name       of the record, and of the benchmark that makes it.
    reports    what the paper reports, in figures where they are known.
    differs    what is not as in the paper.
    there      figures of the paper that are drawn beside those measured here, each list by its name.
    """

    name: str
    title: str
    paper: str
    reports: str
    differs: str
    there: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return f"python -m benchmarks {self.name}"

    def record(self) -> Mapping[str, Any] | None:
        """What was measured; None where no record is shipped."""
        file = RECORDS / f"{self.name}.json"
        return json.loads(file.read_text()) if file.exists() else None  # type: ignore[no-any-return]


_KOH = "Koh & Liang 2017"
_TRACIN = "Pruthi et al. 2020"
_ALL = (
    Experiment(
        "leave_one_out",
        "Influence against leaving out",
        _KOH,
        "Logistic regression: estimates and measurements on the line of identity; the correlation is not printed. "
        "A network of 2,616 parameters that had not come to rest: Pearson 0.86.",
        "Fashion-MNIST and not MNIST; the first mistaken test picture and not numbers 8 and 6558; the mean stays one "
        "over all pictures when one is left out. Logistic regression: 12,000 of 55,000 pictures. The network: 1,000 "
        "pictures of 7 × 7 and not 5,500 of 28 × 28, trained by L-BFGS on all at once and not "
        "in batches, 40 left out and not 100, damping 0.03 and not 0.01.",
    ),
    Experiment(
        "smooth_hinge",
        "Influence through a hinge",
        _KOH,
        "Pearson correlation with leaving out: 0.632 at t = 0, 0.950 at t = 0.001, 0.914 at t = 0.1.",
        "Sneaker against ankle boot of Fashion-MNIST (2,400 pictures) and not digits 1 against 7; eight test pictures "
        "inside the margin, drawn by seed, and not one that was picked; what is left keeps the weight 1/N.",
        {"pearson": (0.632, 0.950, 0.914)},  # at t = 0, 0.001, 0.1
    ),
    Experiment(
        "components",
        "What influence is made of",
        _KOH,
        "A figure without figures: without the curvature no example of the same class is harmful.",
        "Sneaker against ankle boot and not digits 1 against 7; 40 test pictures by seed, of which one is drawn; "
        "penalty 0.01.",
    ),
    Experiment(
        "label_fixing",
        "Wrong labels corrected in three orders",
        _KOH,
        "Read off the figure, shares ±0.8 points and accuracies ±0.4: checking 10 % finds 63 % of the flips by "
        "influence, 52 % by training loss, 10 % at random; test accuracy 88.9 % before, then 95.5, 93.3 and 89.8 %.",
        "6,000 film sentences as bags of words, which such a model likes or not with 74 % accuracy, and not 4,137 "
        "e-mails, where it reaches 98 %. Penalty and share of flips are the paper’s; 20 draws and not 40.",
        {  # figure 6, read off the picture: ±.008 of the shares, ±.004 of the accuracies; at 0, 5, … 30 % checked
            "found influence": (0, 0.43, 0.63, 0.73, 0.79, 0.83, 0.86),
            "found loss": (0, 0.36, 0.52, 0.63, 0.70, 0.75, 0.80),
            "accuracy influence": (0.889, 0.939, 0.955, 0.963, 0.967, 0.970, 0.972),
            "accuracy loss": (0.889, 0.912, 0.933, 0.942, 0.950, 0.955, 0.960),
            "accuracy random": (0.889, 0.894, 0.898, 0.902, 0.907, 0.912, 0.916),
            "accuracy clean": (0.976,),
        },
    ),
    Experiment(
        "attack",
        "Training pictures that turn a test over",
        _KOH,
        "Of 591 test pictures that were right, one training picture moved within half a grey level turns over 335 "
        "(57 %), two 77 %, ten all but one.",
        "Sneaker against ankle boot and not dog against fish; EfficientNet-Lite0 at 96 × 96 and not Inception v3 at "
        "299 × 299, so a tenth of the numbers that can move; 300 training pictures and not 1,800; at most 15 steps of "
        "0.1 grey levels and not 100 of 0.02; the training pictures are the steepest of the 20 whose features are; no "
        "second-best is tried.",
        {"flipped": (335 / 591, 0.77, 590 / 591)},  # by 1, 2 and 10 pictures
    ),
    Experiment(
        "recovery",
        "Wrong labels by self-influence",
        _TRACIN,
        "TracIn finds more than influence functions and representer points; the curves could not be verified and are "
        "not quoted.",
        "Fashion-MNIST (12,000 pictures), the small network of the demo with five checkpoints and all layers, and not "
        "CIFAR-10 or MNIST; training loss stands beside, as the order to beat.",
    ),
    Experiment(
        "first_order",
        "The error of TracIn’s first step",
        _TRACIN,
        "An error of the order of the squared step: slope 2 on logarithmic axes, by Taylor’s theorem.",
        "The paper states the law and quotes no measurement that could be verified; here it is measured on the small "
        "network of the demo, which has kinks (ReLU, maximum), where the law need not hold.",
    ),
    Experiment(
        "hospital",
        "A group that is hardly there",
        _KOH,
        "Of 24 children 3 are readmitted, then 3 of 4: the four children are 27 to 41 times as influential as the "
        "next example.",
        "Admissions of the RAND Health Insurance Experiment and not readmissions of diabetics; 12 admitted children "
        "and 3 others are kept; TracIn over checkpoints; five draws. Drawn are false alarms before and after.",
    ),
    Experiment(
        "kernel_and_network",
        "Influence against distance",
        _KOH,
        "Influence falls with distance for the kernel machine and has nothing to do with it for the network.",
        "Pullover against coat and not dog against fish; a network trained from scratch and not a last layer on "
        "Inception; the smooth hinge is trained too; TracIn over five checkpoints and no inverse Hessian.",
    ),
)
EXPERIMENTS: Mapping[str, Experiment] = {experiment.name: experiment for experiment in _ALL}

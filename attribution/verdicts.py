"""Strong, weak, or not checked: what is concluded from the measurements of a lens, and by which rules.

    not checked   nothing was retrained. Whatever else was measured, nobody has seen a prediction come true.
    weak          something was retrained, and at least one rule below that decides does not hold.
    strong        something was retrained, and every such rule holds that could be looked at.

The rules are all here. A measurement that could not be made breaks none. A rule that does not decide is a caution: it
is said, whatever the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from attribution.measurements import Measurement

Level = Literal["strong", "weak", "not checked"]
RETRAINED = ("prediction", "removal", "lds")  # measurements that compare a prediction with what retraining gave

# Shares of the questions that stand out as far as the strongest twentieth of the null does: by chance, this many.
NULL_TAIL = 0.05


@dataclass(frozen=True)
class Rule:
    """What must hold of a measurement; `broken` is what is said where it does not, `why` the reason for the limit.

    decides: whether the verdict is weak where it does not hold.
    """

    of: str
    holds: Callable[[Measurement], bool]
    broken: str
    why: str
    decides: bool = True


def _low(limit: float) -> Callable[[Measurement], bool]:
    return lambda found: found.interval is not None and found.interval.low > limit


def _at_least(limit: float) -> Callable[[Measurement], bool]:
    return lambda found: found.value is not None and found.value >= limit


def _of_ceiling(share: float) -> Callable[[Measurement], bool]:
    return lambda found: found.value is not None and found.value >= share * found.parts.get("ceiling", 1.0)


RULES = (
    Rule(
        "prediction", _low(0),
        "What it predicts of removals cannot be told from chance: the interval holds 0.",
        "An interval of 95 % that holds 0 is what a lens with shuffled scores gives nineteen times in twenty.",
    ),
    Rule(
        "prediction", _at_least(0.3),
        "What it predicts of removals has a rank correlation below 0.3 with what came.",
        "Below 0.3 less than a tenth of the differences between removals is foretold (0.3² = 0.09).",
    ),
    Rule(
        "removal", _low(0),
        "Removing the supporters it lists lowered the answer no more than removing random examples of the same labels.",
        "Any examples of a class support it; a lens has to find those that do so more than others.",
    ),
    Rule(
        "lds", _low(0),
        "What it foretells of models trained on parts of the data cannot be told from chance: the interval holds 0.",
        "An interval of 95 % over models that holds 0 is what shuffled scores give nineteen times in twenty.",
    ),
    Rule(
        "lds", _of_ceiling(0.3),
        "It foretells models trained on parts of the data by less than 0.3 of what the noise of training leaves.",
        "Below 0.3 of the ceiling less than a tenth of the differences that can be foretold at all is (0.3² = 0.09).",
    ),
    Rule(
        "null", _low(NULL_TAIL),
        "Its strongest scores stand out no more than with shuffled labels: read its lists as groups.",
        "With labels that mean nothing one question in twenty is beyond the null’s 95th percentile. It does not "
        "decide: of a logistic regression, RelatIF and the cosine stood out no more but foretold removals.",
        decides=False,
    ),
    Rule(
        "fidelity", _at_least(0.9),
        "At one checkpoint the projected scores correlate with exact ones by less than 0.9.",
        "Below 0.9 a fifth of the variance of a score comes from the projection (1 − 0.9² = 0.19).",
    ),
    Rule(
        "kept", _at_least(0.7),
        "The projection keeps less than 70 % of the norm of most questions’ gradients.",
        "Below 0.7 more of a gradient’s square is left out than kept.",
    ),
    Rule(
        "recall", _at_least(0.95),
        "The index finds less than 95 % of the strongest examples.",
        "At 95 % one in twenty of the listed examples is not the one that comparing all would list.",
    ),
    Rule(
        "halves", _low(0),
        "The two halves of the checkpoints do not agree on the order of the training examples.",
        "What one half of the training says and the other does not is about the path, not about the data.",
    ),
    Rule(
        "ensemble", _low(0),
        "The two halves of the ensemble do not agree on the order of the training examples.",
        "What one half of the models says and the other does not is about their seeds and parts, not about the data.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """level, in a sentence; doubts: a sentence for each rule that does not hold, also where nothing was retrained."""

    level: Level
    sentence: str
    doubts: tuple[str, ...]


def verdict(found: Iterable[Measurement]) -> Verdict:
    """What the measurements of one lens add up to."""
    made = {each.name: each for each in found if each.value is not None}
    broken = [rule for rule in RULES if rule.of in made and not rule.holds(made[rule.of])]
    doubts = tuple(rule.broken for rule in broken)
    if not any(name in made for name in RETRAINED):
        return Verdict(
            "not checked",
            "Nothing has been retrained to see whether what these scores predict comes true, so how far to believe "
            "them is not known.",
            doubts,
        )
    if any(rule.decides for rule in broken):
        return Verdict(
            "weak", "Read these scores as hints, not as proof: on this model a measurement speaks against them.", doubts
        )
    return Verdict(
        "strong",
        "On this model, training without some of the examples changed the answers as these scores foretold.",
        doubts,
    )

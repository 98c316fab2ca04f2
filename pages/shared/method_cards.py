"""What each method measures and when it fails, a paragraph each, for Trust."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """measures: what a score says;  fails: when not to read it so."""

    measures: str
    fails: str


CARDS = {
    "tracin": Card(
        "The sum over the checkpoints of learning rate times the inner product of two gradients: to first order, how "
        "far steps on the training example lowered the loss of the question.",
        "Examples with large gradients, often mislabeled ones, crowd out the rest, whatever the question. What "
        "training did between checkpoints, momentum and curvature are left out, so sizes overstate what removing an "
        "example does, and a few checkpoints late in training may see little.",
    ),
    "influence": Card(
        "The inner product of two gradients in the inverse of the damped curvature of the training loss, a mean over "
        "the checkpoints: an estimate of how far the loss of the question would rise without the training example.",
        "It supposes that training has come to rest where the loss is convex, and of a network neither holds. With "
        "little damping, directions that few examples pull decide everything; outside the kept numbers there is no "
        "curvature.",
    ),
    "relatif": Card(
        "Influence divided by how far the training example moves all losses: which examples are about this question, "
        "and not about everything.",
        "The size of the effect is lost with the division, so a list is no forecast of what removing it does. "
        "Otherwise it fails where influence does.",
    ),
    "cosine": Card(
        "The cosine between two gradients at the checkpoints: which training examples pull the weights in the same "
        "direction, whatever their size.",
        "It says nothing of how far an example pulled: a well learned example with a tiny gradient counts like any "
        "other. It finds what is alike, copies first, and not what would be missed.",
    ),
}
_OTHER = Card("What it measures stands in its own file.", "Nothing has been written about when it fails.")


def card(method: str) -> Card:
    """The card of a method, layers or not."""
    return CARDS.get(method.partition(":")[0], _OTHER)

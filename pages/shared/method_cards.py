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
    "trak": Card(
        "A linear model of the log-odds of the label, fitted to the gradients of the training set: how much of the "
        "question's log-odds each example accounts for, a mean over the checkpoints.",
        "It was made for many models trained on parts of the data; the checkpoints of one run are much alike and give "
        "less. An example that the model is sure of has a gradient of rounding errors, and fades out.",
    ),
    "trak:models": Card(
        "TRAK as it was made: the linear model of the log-odds, a mean over several models of one recipe, each with a "
        "seed and, unless told otherwise, a random half of the training set of its own. What one model says by chance "
        "the mean forgets.",
        "It explains what this recipe learns from these data, and less what this one model did: others may not even "
        "give its answer. Few models leave much to chance; the line on each bar says how much.",
    ),
    "influence:models": Card(
        "The mean of the influence functions of several models of one recipe, each with a seed and, unless told "
        "otherwise, a random half of the training set of its own. What one model says by chance the mean forgets.",
        "It explains what this recipe learns from these data, and less what this one model did: others may not even "
        "give its answer. Otherwise it fails where influence does.",
    ),
    "datainf": Card(
        "Influence with the curvature of each layer inverted example by example and the inverses averaged: cheap, and "
        "near to influence where a layer is small.",
        "A mean of inverses is not the inverse of the mean; the difference grows with the size of the layer. Otherwise "
        "it fails where influence does.",
    ),
    "arnoldi": Card(
        "Influence in the few directions in which the curvature is largest, and in no other.",
        "What lies outside these directions does not count at all, and that is where rare examples lie. Otherwise it "
        "fails where influence does.",
    ),
    "hessian": Card(
        "Influence as it was defined: the inner product of two gradients in the inverse of the Hessian of the training "
        "loss over real parameters, by the final model. Over the last layer, or all of a small model, it is solved "
        "exactly and answers at once.",
        "Over the last layer the rest of the network counts as given. Over all parameters the loss is not convex and "
        "training has not come to rest, so that curvature is added, which the answer tells.",
    ),
    "hessian:ekfac": Card(
        "Influence by the curvature of every linear and convolution layer in the eigenbasis of its Kronecker factors, "
        "with labels drawn from what the model predicts (EK-FAC). The factors are made once; each question then takes "
        "a pass over the training set.",
        "Layers are taken to have no curvature in common, and the eigenbasis is that of independent inputs and slopes. "
        "The damping, a tenth of a layer's mean curvature, decides how much the flat directions count.",
    ),
    "hessian:cg": Card(
        "Influence by the curvature over all parameters, solved by conjugate gradients to the residual that the answer "
        "tells: by the Hessian where it is positive definite, else by the Gauss-Newton curvature, which leaves out how "
        "the network itself curves.",
        "Each question is solved anew, which takes seconds to minutes. The curvature is that of a part of the training "
        "set, and with little damping flat directions that few examples pull decide much.",
    ),
    "hessian:lissa": Card(
        "The same solve by a series over small batches (LiSSA), whose residual the answer tells.",
        "It takes longer than conjugate gradients to come as near, and where curvature differs much between directions "
        "the flat ones are cut off. Each question is solved anew.",
    ),
    "loss": Card(
        "A baseline: the training loss of each example by the final model, whatever is asked.",
        "It says nothing of any question. A lens that finds no more wrong labels than this adds nothing there.",
    ),
    "random": Card(
        "A baseline: numbers drawn by chance from the names of the examples.",
        "It means nothing. What a lens reaches is read against what this reaches.",
    ),
    "representer": Card(
        "The last layer is fitted again to the end; each class score of that layer is then a sum over the training "
        "examples, and this is the part of each.",
        "Only the last layer counts, and the refitted one is not the network that was trained. Examples that share "
        "features have large parts that cancel.",
    ),
}


def card(method: str) -> Card:
    """The card of a method, whatever its layers or its damping; of a form that has none of its own, its method's."""
    name = method.partition("@")[0]
    return CARDS.get(name) or CARDS[name.partition(":")[0]]

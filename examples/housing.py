"""Numbers in place of classes: what houses cost in 20,640 districts of California, by a small network.

The table is shipped with Whence; a CSV of your own is named in its place.
"""

from torch import nn

from attribution import Project, TrainingRecipe, rows_in
from attribution.datasets import california_housing

data = rows_in(california_housing(), label="value", target="number", unit="× $100k")


def project() -> Project:
    return Project(
        name="housing",
        model=lambda: nn.Sequential(nn.Linear(len(data.feature_names), 32), nn.Tanh(), nn.Linear(32, 1)),
        retrain=TrainingRecipe(epochs=10, batch_size=64, learning_rate=0.02),
        **data,
    )

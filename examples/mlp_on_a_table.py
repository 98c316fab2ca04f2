"""A project file: a small network on the columns of a CSV file, which Whence trains itself.

Beside this file: patients.csv, with columns patient and diagnosis, and others of numbers or texts
"""

from torch import nn

from attribution import Project, TrainingRecipe, rows_in

data = rows_in("patients.csv", label="diagnosis", id="patient", test_share=0.3)
width = len(data.feature_names)


def project() -> Project:
    return Project(
        name="patients",
        model=lambda: nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, len(data.classes))),
        retrain=TrainingRecipe(epochs=20, batch_size=32, learning_rate=0.1),
        **data,
    )

"""A project file: scikit-learn's logistic regression behind a scaler, on data that it brings. It runs as it is.

A model that was fitted elsewhere is loaded here instead, in the way in which it was saved.
"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attribution import Project, from_sklearn, rows_in

table = load_breast_cancer(as_frame=True)
data = rows_in(table.frame, label="target", classes=list(table.target_names), standardise=False)
fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.train.features, data.train.labels)


def project() -> Project:
    return Project(name="tumours", **from_sklearn(fitted), **data)

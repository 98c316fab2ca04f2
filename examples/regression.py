"""Numbers in place of classes: a scikit-learn regression on the table that it was fitted on."""

from sklearn.linear_model import Ridge

from attribution import Project, from_sklearn, rows_in


def project() -> Project:
    data = rows_in("diabetes.csv", label="progression", target="number", unit="points")
    features = [data.train[i][0].numpy() for i in range(len(data.train))]
    targets = [data.train[i][1] for i in range(len(data.train))]
    return Project(name="diabetes", **from_sklearn(Ridge(alpha=1.0).fit(features, targets)), **data)

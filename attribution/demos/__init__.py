"""Demos: small trained models on data that is shipped or found, with faults that are known because they were planted.

A demo is a project like any other, made from its name and options, so that a workspace can record it in one line. A
new one is a file and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attribution.demos import fashion, fashion_rbf, hospital, reviews
from attribution.demos.options import DemoOptions
from attribution.errors import InvalidInput
from attribution.project import Project

DEMOS: Mapping[str, Callable[[DemoOptions], Project]] = {
    "fashion": fashion.project,
    "fashion-rbf": fashion_rbf.project,
    "reviews": reviews.project,
    "hospital": hospital.project,
}


def demo_project(name: str, options: DemoOptions) -> Project:
    """The project of a named demo; raises `InvalidInput` for an unknown name."""
    if name not in DEMOS:
        raise InvalidInput(f"There is no demo “{name}”.", f"The demos are {', '.join(DEMOS)}.")
    return DEMOS[name](options)

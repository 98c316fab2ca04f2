"""Project file: two classes of the demo's pictures, by a network."""

from benchmarks.two_classes import network as project

__all__ = ["project"]

"""Project file: two classes of the demo's pictures, by a kernel machine."""

from benchmarks.two_classes import machine as project

__all__ = ["project"]

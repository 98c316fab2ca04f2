"""Project file: 4,000 of the demo's sentences."""

from benchmarks.small_tasks import texts as project

__all__ = ["project"]

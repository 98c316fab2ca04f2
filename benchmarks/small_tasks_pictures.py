"""Project file: 1,500 of the demo's pictures."""

from benchmarks.small_tasks import pictures as project

__all__ = ["project"]

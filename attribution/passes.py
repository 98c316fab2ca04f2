"""Passes over the data on as many threads as torch may use, each pass on one thread with a model of its own.

Splitting single operations between threads has them wait for each other some eighty times a pass; passes need not. And
since a pass is computed by one thread, its numbers are the same however many there are (of the same weights and the
same fitted projection: training and fitting do split their operations).
"""

from __future__ import annotations

import itertools
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from attribution.gradients import GradientEngine
from attribution.products import fast_products

_COPIES_AT_MOST = 2**30  # bytes of all models together
Item = TypeVar("Item")
Result = TypeVar("Result")


class Passes:
    """Engines for one checkpoint, one a thread."""

    def __init__(self, engines: list[GradientEngine], pool: ThreadPoolExecutor | None) -> None:
        self._pool, self.width = pool, len(engines)
        self._free: queue.SimpleQueue[GradientEngine] = queue.SimpleQueue()
        for engine in engines:
            self._free.put(engine)

    def map(self, do: Callable[[GradientEngine, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """do(engine, item) for every item, results in their order; a few are computed ahead."""
        left = iter(items)
        if self._pool is None:
            yield from (self._run(do, item) for item in left)
            return
        ahead: deque[Future[Result]] = deque()
        for item in itertools.islice(left, 2 * self.width):
            ahead.append(self._pool.submit(self._run, do, item))
        while ahead:
            yield ahead.popleft().result()
            for item in itertools.islice(left, 1):
                ahead.append(self._pool.submit(self._run, do, item))

    def _run(self, do: Callable[[GradientEngine, Item], Result], item: Item) -> Result:
        engine = self._free.get()
        try:
            return do(engine, item)
        finally:
            self._free.put(engine)


@contextmanager
def passes(engine: GradientEngine) -> Iterator[Passes]:
    """Threads for the passes of one engine; none on a GPU, or where copies of the model would not fit."""
    if engine.task.device.type != "cpu":
        yield Passes([engine], None)
        return
    with fast_products(), _threads(engine) as run:
        yield run


@contextmanager
def _threads(engine: GradientEngine) -> Iterator[Passes]:
    threads = torch.get_num_threads()
    n_bytes = sum(p.numel() * p.element_size() for p in engine.model.parameters())
    width = min(threads, max(1, _COPIES_AT_MOST // max(n_bytes, 1)))
    if width == 1:
        yield Passes([engine], None)
        return
    engines = [engine, *(engine.copy() for _ in range(width - 1))]
    pool = ThreadPoolExecutor(width, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield Passes(engines, pool)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # some of torch's libraries have one setting for all threads

"""Many pictures at once, and their results in the order of the pictures.

Threads, because decoding is Pillow's and libraries' work, which lets other threads run.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["in_order"]

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 16  # per thread: enough to keep them busy, few enough to hold their results


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `work` makes of each of `items`, in their order, computed on all cores."""
    threads = os.cpu_count() or 1
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            waiting.extend(pool.submit(work, item) for item in islice(rest, threads * _AHEAD))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)

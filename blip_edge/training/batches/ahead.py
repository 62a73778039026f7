"""Work done ahead of whoever waits for it, by threads, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

J = TypeVar("J")
R = TypeVar("R")


def ahead(jobs: Iterable[J], work: Callable[[J], R], *, workers: int) -> Generator[R, None, None]:
    """`work` of every job, in the order of `jobs`, up to two jobs a worker ahead of the reader.

    Without workers each is done when it is asked for. What `work` raises is raised here, in its
    turn. No thread outlives the generator: close it when it is not read to its end.
    """
    if workers < 1:
        yield from map(work, jobs)
        return
    coming = iter(jobs)
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        try:
            for job in coming:
                waiting.append(pool.submit(work, job))
                if len(waiting) == 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

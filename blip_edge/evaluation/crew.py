"""The processes that share an evaluation: each asks the model about its part, all know everything.

Nobody here knows how they talk: whoever starts them hands in `everyone`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from blip_edge.errors import BlipEdgeError
from blip_edge.progress import SILENT, Progress

__all__ = ["ALONE", "Crew"]

T = TypeVar("T")
R = TypeVar("R")


def _alone(mine: Any) -> list[Any]:
    return [mine]


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Crew:
    """One of `world` processes, which together do what one would do, and find the same."""

    rank: int = 0
    world: int = 1
    everyone: Callable[[Any], list[Any]] = _alone
    """What each process holds, in the order of ranks; every process must call it, equally often."""

    def gathered(
        self,
        items: Sequence[T],
        work: Callable[[T], Sequence[R]],
        description: str,
        progress: Progress = SILENT,
    ) -> list[R]:
        """What `work` finds for each item, in the order of items, whoever did it.

        An item is not divided: a group of pictures goes through the model as it would in one
        process, so that not even a last digit differs.

        Raises:
            BlipEdgeError: `work` raised it, in this process or in another.
        """

        def share() -> list[R]:
            return [one for item in self._share(items, description, progress) for one in work(item)]

        return [one for part in self._told(share) for one in part]

    def once(self, work: Callable[[], T]) -> T:
        """What `work` gives, done by the first process and told to all.

        Raises:
            BlipEdgeError: `work` raised it.
        """
        found: list[T | None] = self._told(work if self.rank == 0 else _nothing)
        return cast(T, found[0])

    def _told(self, work: Callable[[], T]) -> list[T]:
        """What each process makes; a failure of one is everybody's, so that nobody waits."""
        mine: T | None = None
        failed: BlipEdgeError | None = None
        try:
            mine = work()
        except BlipEdgeError as error:
            failed = error
        parts = self.everyone((mine, failed))
        for _, theirs in parts:
            if theirs is not None:
                raise failed or theirs
        return [part for part, _ in parts]

    def _share(self, items: Sequence[T], description: str, progress: Progress) -> Iterator[T]:
        first, end = (len(items) * rank // self.world for rank in (self.rank, self.rank + 1))
        return progress.track(items[first:end], description, total=end - first)


ALONE = Crew()
"""One process, which does everything."""

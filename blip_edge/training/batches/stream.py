"""Rows out of shards, which are read on and on, beside the rows of a data set."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from blip_edge.data.shards import Damage, Pair, Shards
from blip_edge.training.batches.pictures import Damaged
from blip_edge.training.batches.skipping import LeftOut

__all__ = ["Stream", "Streamed", "Web"]

I = TypeVar("I")  # noqa: E741


@dataclass(frozen=True)
class Web:
    """Shards that are trained on."""

    shards: Shards
    counts: Mapping[Path, int]
    """Samples of each."""

    @property
    def total(self) -> int:
        """Samples of all shards."""
        return sum(self.counts.values())

    @property
    def rows(self) -> int:
        """Samples of an epoch: those of a part of average size."""
        return self.total // self.shards.parts


class Streamed(NamedTuple, Generic[I]):
    """A row whose picture is not decoded yet."""

    item: I
    pair: Pair


@dataclass(frozen=True)
class Stream(Generic[I]):
    """The pairs of shards as rows of a task."""

    web: Web
    item: Callable[[Pair], I | LeftOut]
    """What the task makes of a pair."""

    def after(self, epoch: int, *, rank: int, world: int) -> Iterator[Streamed[I] | Damaged]:
        """What a process reads in an epoch, without end; see `Shards.share`."""
        for pair in self.web.shards.share(epoch, self.web.counts, rank=rank, world=world):
            if isinstance(pair, Damage):
                yield Damaged(pair.where, str(pair))
                continue
            item = self.item(pair)
            if isinstance(item, LeftOut):
                yield Damaged(pair.where, item.reason)
            else:
                yield Streamed(item, pair)

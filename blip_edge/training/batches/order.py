"""Which rows make which batch: told by the seed alone, and findable in the middle of a run."""

# E rows of an epoch · B rows of a batch · W processes

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import ArtifactError

__all__ = ["Order", "Planned"]


class Planned(NamedTuple):
    """A batch that has not been read yet."""

    position: int
    """Its number in the run, from 0 on."""
    epoch: int
    """The one whose order and draws it has."""
    rows: NDArray[np.int64]
    """(B,) numbers of rows."""


class Order:
    """Every epoch's rows in a new order, which depends on `seed` and the epoch alone.

    Process `rank` of `world` takes its `batch` rows out of every `world` · `batch`, so that all
    processes have equally many batches, and together the rows that one process with batches as
    large as all of theirs has. Up to `world` · `batch` - 1 rows are left out at the end of an
    epoch, other ones each time. Of too few rows for one batch everybody gets equally many. After
    `views` epochs the first one comes again, and all that is drawn for its rows; 0 repeats none.

    Raises:
        ArtifactError: there are fewer rows than processes.
    """

    def __init__(
        self,
        rows: int,
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        views: int = 0,
    ) -> None:
        if rows < world:
            raise ArtifactError(f"{rows} rows are too few for {world} processes: start fewer")
        self._rows, self._seed, self._rank, self._world = rows, seed, rank, world
        self._views = views
        self._batch = min(batch, rows // world)
        self.per_epoch = rows // (self._batch * world)
        """Batches of this process, and of every other, in one pass over the rows."""

    def after(self, position: int) -> Iterator[Planned]:
        """The batches from number `position` on, without end."""
        for epoch in count():
            view = epoch % self._views if self._views else epoch
            if view == 0:
                generator = np.random.default_rng(self._seed)
            # One generator draws all epochs, so those that are passed over are drawn too.
            order = generator.permutation(self._rows)
            begin = epoch * self.per_epoch
            for number in range(max(begin, position), begin + self.per_epoch):
                first = ((number - begin) * self._world + self._rank) * self._batch
                yield Planned(number, view, order[first : first + self._batch])

"""Rows of a data set as batches: what all tasks share. A task says what a row is and needs.

Pictures that cannot be decoded are skipped and counted; too many of them stop the run.
"""

# B rows · T text tokens · S image side

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, Required, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import Preprocess
from blip_edge.progress import Progress
from blip_edge.text import Tokenizer
from blip_edge.training.augment import Augmentation
from blip_edge.training.batches.ahead import ahead
from blip_edge.training.batches.order import Order, Planned
from blip_edge.training.batches.pictures import Damaged, Pictures, hush
from blip_edge.training.batches.skipping import LeftOut, Skipped
from blip_edge.training.batches.step import Step
from blip_edge.training.batches.stream import Stream, Streamed

__all__ = ["Example", "Feeding", "RowBatches"]

I = TypeVar("I")  # noqa: E741
S = TypeVar("S", bound=Step)


class Feeding(TypedDict, total=False):
    """How batches of any task are made."""

    batch: Required[int]
    """Rows of a batch, of each process."""
    seed: Required[int]
    """Decides the order of rows, and all that is drawn for one."""
    max_bad: float
    """Share of pictures, and of rows, that may be of no use before the run stops; 0.01."""
    augmentation: Augmentation | None
    """What is done to pictures; None squashes them, as in testing."""
    workers: int
    """Threads that read and decode ahead; 0 does it when a batch is asked for."""
    rank: int
    """Which process this is, from 0 on."""
    world: int
    """How many processes share the rows."""
    views: int
    """Epochs that differ, after which they come again; 0 repeats none."""


class Example(NamedTuple, Generic[I]):
    """A row with its pictures."""

    item: I
    pixels: tuple[NDArray[np.uint8], ...]
    """(S, S, 3) each."""
    rng: np.random.Generator
    """Of this row in this epoch, for what else is drawn: it needs nothing that went before."""


class _Job(NamedTuple, Generic[I]):
    planned: Planned
    streamed: tuple[Streamed[I] | Damaged, ...]


class _Made(NamedTuple, Generic[S]):
    position: int
    batch: S | None
    damaged: list[Damaged]


class RowBatches(ABC, Generic[I, S]):
    """Shuffled batches of rows, epoch after epoch, without end.

    The order is that of `Order`, and what is drawn for a row depends on the seed, the epoch and
    the row's number, so that a run can go on from any batch and with any number of workers.

    A stream's rows come among the data set's, in the stream's own order. An epoch's are read from
    their beginning by a run that goes on in its middle, without decoding pictures.

    Args:
        data: where the pictures are; None if all rows are the stream's.
        items: what the task makes of its rows; of some, why they are left out.
        what: the rows' name in errors.
        tokenizer: the model's.
        preprocess: the model's.
        feeding: how batches are made.
        stream: rows that are not counted among `items`.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset | None,
        items: Sequence[I | LeftOut],
        what: str,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        feeding: Feeding,
        stream: Stream[I] | None = None,
    ) -> None:
        where = str(data.folder) if data is not None else "the shards"
        left_out = [item for item in items if isinstance(item, LeftOut)]
        self._items = [item for item in items if not isinstance(item, LeftOut)]
        streamed = 0 if stream is None else stream.web.rows
        if not items and not streamed:
            raise ArtifactError(f"{where}: no {what} to train on")
        pictures = {image for item in self._items for image in self._images(item)}
        self._skipped = Skipped(
            where,
            len(pictures) + (0 if stream is None else stream.web.total),
            len(items),
            left_out,
            feeding.get("max_bad", 0.01),
        )
        if not self._items and not streamed:
            raise ArtifactError(f"{where}: no {what} to train on: {left_out[-1].reason}")
        self._seed, self._stream = feeding["seed"], stream
        self._rank, self._world = feeding.get("rank", 0), feeding.get("world", 1)
        self._order = Order(
            *(len(self._items) + streamed, feeding["batch"], self._seed),
            rank=self._rank,
            world=self._world,
            views=feeding.get("views", 0),
        )
        self._tokenizer, self._preprocess = tokenizer, preprocess
        self._pictures = Pictures(data, preprocess, feeding.get("augmentation"))
        self._workers = feeding.get("workers", 0)

    @abstractmethod
    def _images(self, item: I) -> tuple[str, ...]:
        """The pictures that a row needs."""

    @abstractmethod
    def _collate(self, examples: list[Example[I]]) -> S:
        """At least one row as tensors; called by several threads at once."""

    @property
    def skipped(self) -> dict[str, str]:
        """Pictures that could not be decoded, and why."""
        return self._skipped.pictures

    def report(self, folder: Path, progress: Progress) -> None:
        """List what was skipped in `skipped.jsonl`, if anything was; see `Skipped.report`."""
        self._skipped.report(folder, progress)

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the rows."""
        return self._order.per_epoch

    def __iter__(self) -> Iterator[S]:
        with closing(self.placed()) as placed:
            for _, batch in placed:
                yield batch

    def placed(self, position: int = 0) -> Generator[tuple[int, S], None, None]:
        """The batches from `position` on, each with the position to go on from after it.

        Of one process a batch none of whose pictures can be read is left out. Several must have
        equally many batches, and take the next row that can be read.
        """
        with closing(ahead(self._jobs(position), self._made, workers=self._workers)) as coming:
            empty = 0
            for number, batch, damaged in coming:
                # Counted here and not by whoever read them: in the same order with any workers.
                for image, why in damaged:
                    self._skipped.add(image, why)
                empty = 0 if batch is not None else empty + 1
                self._skipped.require_any(empty < self.per_epoch)
                if batch is not None:
                    yield number + 1, batch

    def _jobs(self, position: int) -> Iterator[_Job[I]]:
        """The batches from `position` on, with what the stream gives each of them, in its order."""
        if self._stream is None:
            yield from (_Job(planned, ()) for planned in self._order.after(position))
            return
        begin = position - position % self.per_epoch
        stream: Iterator[Streamed[I] | Damaged] = iter(())
        for planned in self._order.after(begin):
            if planned.position % self.per_epoch == 0:
                stream = self._streamed(planned.epoch)
            wanted = int((planned.rows >= len(self._items)).sum())
            streamed = tuple(islice(stream, wanted))
            if planned.position >= position:
                yield _Job(planned, streamed)

    def _streamed(self, epoch: int) -> Iterator[Streamed[I] | Damaged]:
        assert self._stream is not None
        return self._stream.after(epoch, rank=self._rank, world=self._world)

    def _made(self, job: _Job[I]) -> _Made[S]:
        (position, epoch, rows), damaged = job.planned, list[Damaged]()
        with hush:
            found = [
                *(self._row(epoch, int(row), damaged) for row in rows if row < len(self._items)),
                *(self._decoded(epoch, streamed, damaged) for streamed in job.streamed),
            ]
            examples = [example for example in found if example is not None]
            if not examples and self._world > 1:
                examples = list(islice(self._instead(job.planned, damaged), 1))
        batch = self._collate(examples) if examples else None
        return _Made(position, batch, damaged)

    def _row(self, epoch: int, row: int, damaged: list[Damaged]) -> Example[I] | None:
        item, rng = self._items[row], np.random.default_rng((self._seed, epoch, row))
        pixels = []
        for image in self._images(item):
            read = self._pictures.read(image, rng)
            if isinstance(read, Damaged):
                damaged.append(read)
                return None
            pixels.append(read)
        return Example(item, tuple(pixels), rng)

    def _decoded(
        self, epoch: int, streamed: Streamed[I] | Damaged, damaged: list[Damaged]
    ) -> Example[I] | None:
        if isinstance(streamed, Streamed):
            rng = np.random.default_rng((self._seed, epoch, streamed.pair.number))
            pixels = self._pictures.decode(streamed.pair, rng)
            if not isinstance(pixels, Damaged):
                return Example(streamed.item, (pixels,), rng)
            streamed = pixels
        damaged.append(streamed)
        return None

    def _instead(self, planned: Planned, damaged: list[Damaged]) -> Iterator[Example[I]]:
        """Rows that can be read, from the one after those that cannot."""
        rows = len(self._items)
        for further in range(1, rows + 1):
            row = (int(planned.rows[-1]) + further) % rows
            if (example := self._row(planned.epoch, row, damaged)) is not None:
                yield example
        if self._stream is not None:
            for streamed in islice(self._streamed(planned.epoch), self._stream.web.total):
                example = self._decoded(planned.epoch, streamed, damaged)
                if example is not None:
                    yield example

    def _normalised(self, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(B, 3, S, S) float32 of B squares."""
        return torch.from_numpy(self._preprocess.normalise(np.stack(pixels)))

    def _encoded(self, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) int64 of texts, each starting with [CLS]."""
        ids, mask = self._tokenizer.encode(texts, max_length=max_length)
        return torch.from_numpy(ids).long(), torch.from_numpy(mask).long()

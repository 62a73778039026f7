"""Rows of a data set as batches: what all tasks share. A task says what a row is and needs.

Pictures that cannot be decoded are skipped and counted; too many of them stop the run.
"""

# B rows · T text tokens · S image side

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
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


class Example(NamedTuple, Generic[I]):
    """A row with its pictures."""

    item: I
    pixels: tuple[NDArray[np.uint8], ...]
    """(S, S, 3) each."""
    rng: np.random.Generator
    """Of this row in this epoch, for what else is drawn: it needs nothing that went before."""


class _Made(NamedTuple, Generic[S]):
    position: int
    batch: S | None
    damaged: list[Damaged]


class RowBatches(ABC, Generic[I, S]):
    """Shuffled batches of rows, epoch after epoch, without end.

    The order is that of `Order`, and what is drawn for a row depends on the seed, the epoch and
    the row's number, so that a run can go on from any batch and with any number of workers.

    Args:
        data: where the pictures are.
        items: what the task makes of its rows; of some, why they are left out.
        what: the rows' name in errors.
        tokenizer: the model's.
        preprocess: the model's.
        feeding: how batches are made.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset,
        items: Sequence[I | LeftOut],
        what: str,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        feeding: Feeding,
    ) -> None:
        left_out = [item for item in items if isinstance(item, LeftOut)]
        self._items = [item for item in items if not isinstance(item, LeftOut)]
        if not items:
            raise ArtifactError(f"{data.folder} has no {what} to train on")
        names = dict.fromkeys(image for item in self._items for image in self._images(item))
        self._numbers = {name: number for number, name in enumerate(names)}
        self._skipped = Skipped(
            data.folder, len(names), len(items), left_out, feeding.get("max_bad", 0.01)
        )
        if not self._items:
            raise ArtifactError(f"{data.folder} has no {what} to train on: {left_out[-1].reason}")
        self._seed, self._world = feeding["seed"], feeding.get("world", 1)
        self._order = Order(
            *(len(self._items), feeding["batch"], self._seed),
            rank=feeding.get("rank", 0),
            world=self._world,
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
        with closing(
            ahead(self._order.after(position), self._made, workers=self._workers)
        ) as coming:
            for number, batch, damaged in coming:
                # Counted here and not by whoever read them: in the same order with any workers.
                for image, why in damaged:
                    self._skipped.add(image, why)
                if (number + 1) % self.per_epoch == 0:
                    self._skipped.require_any()
                if batch is not None:
                    yield number + 1, batch

    def _made(self, planned: Planned) -> _Made[S]:
        damaged: list[Damaged] = []
        with hush:
            found = [self._example(planned.epoch, int(row), damaged) for row in planned.rows]
            examples = [example for example in found if example is not None]
            if not examples and self._world > 1:
                examples = self._instead(planned, damaged)
        batch = self._collate(examples) if examples else None
        return _Made(planned.position, batch, damaged)

    def _example(self, epoch: int, row: int, damaged: list[Damaged]) -> Example[I] | None:
        item, rng = self._items[row], np.random.default_rng((self._seed, epoch, row))
        pixels = []
        for image in self._images(item):
            read = self._pictures.read(image, rng)
            if isinstance(read, Damaged):
                damaged.append(read)
                return None
            pixels.append(read)
        return Example(item, tuple(pixels), rng)

    def _instead(self, planned: Planned, damaged: list[Damaged]) -> list[Example[I]]:
        """The first row that can be read after those that cannot."""
        rows = len(self._items)
        for further in range(1, rows):
            row = (int(planned.rows[-1]) + further) % rows
            if (example := self._example(planned.epoch, row, damaged)) is not None:
                return [example]
        return []

    def _normalised(self, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(B, 3, S, S) float32 of B squares."""
        return torch.from_numpy(self._preprocess.normalise(np.stack(pixels)))

    def _encoded(self, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Ids and mask (B, T) int64 of texts, each starting with [CLS]."""
        ids, mask = self._tokenizer.encode(texts, max_length=max_length)
        return torch.from_numpy(ids).long(), torch.from_numpy(mask).long()

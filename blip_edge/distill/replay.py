"""Batches with what their teacher tells of them, out of a store that is filled as far as needed.

A store holds whole batches of the first `views` epochs, in which order, augmentation and drawn
partners follow from the seed; later epochs are those again. What the pictures looked like is kept
in thumbnails, so that a picture that has changed since is noticed and not learned from.
"""

# B rows · V pictures of a batch · S image side

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from blip_edge.distill.recipe import Imitation
from blip_edge.distill.store import Store
from blip_edge.distill.told import Taught, Told
from blip_edge.errors import ArtifactError
from blip_edge.progress import SILENT, Progress
from blip_edge.training import processes
from blip_edge.training.batches import RowBatches
from blip_edge.training.recipe import TrainRecipe

__all__ = ["TaughtBatches", "identity_of"]

SHARD_BYTES = 1 << 28
"""About the size of a shard."""
_LAYOUT = "layout"
_TELLING = (
    *("batch", "precision", "max_words", "min_crop", "flip", "augment_ops", "augment_level"),
    *("swap", "negative_all_rank", "train_on_val", "web_parts", "prompt", "task"),
)
# Pixels are normalised to about 1. Other versions of Pillow differ by less than that.
_ALIKE, _SIDE = 0.05, 4

Tell = Callable[[Any], Told]


def identity_of(recipe: Imitation, training: TrainRecipe, *, seed: int) -> dict[str, Any]:
    """What decides which batches there are, and how much of the teacher's words is kept."""
    told = asdict(training)
    of = {key: told[key] for key in _TELLING}
    of |= {"seed": seed, "views": recipe.views, "said": recipe.said, "top": recipe.top}
    # The weight of the rest is of softened probabilities.
    of |= {"temperature": recipe.temperature} if recipe.top else {}
    return of | {"processes": processes.world()}


class TaughtBatches:
    """The batches of `rows`, whose epochs come again after `views`, each as `Taught`.

    Every process has its own, and all must call the same.

    Args:
        rows: read with the same `views`.
        store: where the teacher's words are kept.
        views: epochs that differ.
    """

    def __init__(self, rows: RowBatches[Any, Any], store: Store, views: int) -> None:
        self._rows, self._store = rows, store
        self._total = views * rows.per_epoch
        self._number, self._shard = -1, dict[int, dict[str, Tensor]]()

    @property
    def skipped(self) -> dict[str, str]:
        """Pictures that could not be decoded, and why."""
        return self._rows.skipped

    def fill(self, batches: int, tell: Callable[[], Tell], progress: Progress = SILENT) -> None:
        """Have the store hold what is told of the first `batches`, or of all if they are fewer.

        A shard is of equally many batches, so that what is missing is known by its number. `tell`
        makes what asks the teacher, and is called only if something is missing.

        Raises:
            ArtifactError: the store cannot be written.
        """
        ask: Tell | None = None
        if not processes.first(self._store.has(_LAYOUT)):
            ask = tell()
            self._lay_out(ask)
        size = self._size
        shards = -(-min(batches, self._total) // size)
        lacking = (number for number in range(shards) if not self._store.has(_name(number)))
        # Of several processes all begin where the last one is: a teacher may be asked together.
        first = min(processes.everyone(next(lacking, shards)))
        if first == shards:
            return
        for number, held in self._asked(
            first * size, min(shards * size, self._total), ask or tell(), progress
        ):
            if not self._store.has(_name(number)):
                self._store.keep(_name(number), held)
        self._store.forget(_name(""))

    def placed(self, position: int = 0) -> Generator[tuple[int, Taught], None, None]:
        """As the rows' own, each with what is told of it.

        Raises:
            ArtifactError: a shard is damaged or missing, or pictures or words are not those that
                the teacher was asked about.
        """
        with closing(self._rows.placed(position)) as placed:
            for after, batch in placed:
                yield after, Taught(batch, self._told((after - 1) % self._total, batch))

    @cached_property
    def _size(self) -> int:
        """Batches of a shard."""
        return int(self._store.read(_LAYOUT)["batches"])

    def _lay_out(self, ask: Tell) -> None:
        """Give a shard as many batches as the first one's size allows, on every process."""
        first = next(iter(self._rows))
        room = sum(tensor.nbytes for tensor in _kept(ask(first), first).values())
        if processes.rank() == 0:
            batches = max(1, SHARD_BYTES // room)
            self._store.keep(_LAYOUT, {"batches": torch.tensor(batches)})
        processes.everyone(None)  # nobody reads it before it is there

    def _asked(
        self, begin: int, end: int, ask: Tell, progress: Progress
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """The shards of the batches from `begin` to `end`."""
        number, held = begin // self._size, dict[str, Tensor]()
        with closing(self._rows.placed(begin)) as placed:
            coming = progress.track(_until(placed, end), "words of the teacher", total=end - begin)
            for after, batch in coming:
                if (after - 1) // self._size > number:
                    yield number, held
                    number, held = (after - 1) // self._size, {}
                kept = _kept(ask(batch), batch)
                held |= {f"{after - 1}.{name}": tensor for name, tensor in kept.items()}
        yield number, held

    def _told(self, number: int, batch: Any) -> Told:
        if number // self._size != self._number:
            self._number = number // self._size
            self._shard = _by_batch(self._store.read(_name(self._number)))
        kept = self._shard.get(number, {})
        if not all(_alike(one, kept.get(name)) for name, one in _marks(batch).items()):
            raise ArtifactError(
                f"{self._store.folder}: the pictures or words of batch {number} are not those that "
                "the teacher was asked about; give --store another folder"
            )
        return Told.unpacked(kept)


def _until(placed: Iterator[tuple[int, Any]], end: int) -> Iterator[tuple[int, Any]]:
    """Those before `end`; without any picture that can be read, the last may not be among them."""
    for after, batch in placed:
        if after <= end:
            yield after, batch
        if after >= end:
            return


def _name(number: int | str) -> str:
    """Of a shard of this process."""
    digits = number if isinstance(number, str) else f"{number:05}"
    return f"shard-{processes.rank()}-{digits}"


def _by_batch(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        found.setdefault(int(number), {})[name] = tensor
    return found


def _kept(told: Told, batch: Any) -> dict[str, Tensor]:
    return told.packed() | _marks(batch)


def _marks(batch: Any) -> dict[str, Tensor]:
    """By which a batch is known again: thumbnails (V, 3, 4, 4) of pictures, a sum of all else."""
    marks, sums = {}, 0
    for each in fields(batch):
        value = getattr(batch, each.name).cpu()
        if value.ndim > 3:
            flat = value.flatten(0, -4)  # (V, 3, S, S)
            marks[f"seen.{each.name}"] = F.adaptive_avg_pool2d(flat.float(), _SIDE).half()
        else:
            sums = crc32(value.contiguous().numpy().tobytes(), sums)
    return {**marks, "words": torch.tensor(sums)}


def _alike(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.shape != other.shape:
        return False
    return bool((one.double() - other.double()).abs().max() < _ALIKE)

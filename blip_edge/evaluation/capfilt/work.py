"""The parts that are still to do, done: here, or by processes that each hold the models.

A process takes a part whenever it is free. If one dies the run ends with an error, and what the
others finished stays.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from blip_edge.errors import ArtifactError, BlipEdgeError
from blip_edge.evaluation.capfilt.bootstrap import Bootstrap, Looked, squashed
from blip_edge.evaluation.capfilt.parts import Found, Part, Row, finish_part
from blip_edge.evaluation.capfilt.recipe import CapfiltRecipe
from blip_edge.evaluation.capfilt.texts import Text
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.picture_folder import read_ahead

__all__ = ["Models", "Seen", "bootstrap_part", "do_parts", "looked_at", "share_parts", "told"]

# Pictures that are captioned at once.
_TOGETHER = 16


class Seen(NamedTuple):
    """A picture that could be opened."""

    name: str
    looked: Looked


@dataclass(frozen=True)
class Models:
    """What a process needs to open captioners and filters for itself."""

    captioners: tuple[Path, ...]
    filters: tuple[Path, ...]
    recipe: CapfiltRecipe
    seed: int
    digests: dict[Path, str]
    """sha256 of each folder."""
    threads: int | None = None

    def open(self) -> Bootstrap:
        """The models, ready to work; see `bootstrap.opened` for errors."""
        return Bootstrap.open(
            *(self.captioners, self.filters, self.recipe, self.seed, self.threads, self.digests)
        )


def do_parts(
    parts: Sequence[Part],
    folder: Path,
    bootstrap: Bootstrap,
    *,
    progress: Progress = SILENT,
) -> Iterator[Part]:
    """Do all of `parts` into `folder`; each is told of when it is done."""
    for part in progress.track(parts, "bootstrapping", total=len(parts)):
        bootstrap_part(part, folder, bootstrap, progress)
        yield part


def share_parts(
    parts: Sequence[Part],
    folder: Path,
    models: Models,
    *,
    processes: int,
    progress: Progress = SILENT,
) -> Iterator[Part]:
    """The same by processes, in any order.

    Raises:
        BlipEdgeError: a process died.
    """
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(models, folder)
    )
    with pool:
        waiting = {pool.submit(_one, part): part for part in parts}
        try:
            for done in progress.track(as_completed(waiting), "bootstrapping", total=len(parts)):
                done.result()
                yield waiting[done]
        except BrokenProcessPool:
            raise BlipEdgeError(
                "a process of the bootstrapping was killed or ran out of memory; go on with "
                "--resume, perhaps with fewer --processes"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def bootstrap_part(part: Part, folder: Path, bootstrap: Bootstrap, progress: Progress) -> None:
    """Read a part's pictures, write and judge their texts, and put down what became of them."""
    found: list[Found] = []
    for some in looked_at(part, bootstrap.sizes):
        texts = bootstrap.texts([one.looked for one in some if isinstance(one, Seen)])
        found += told(some, texts)
        progress.note(f"{len(found)} pictures of part {part.number}")
    finish_part(part, folder, found)


def told(some: Sequence[Seen | Found], texts: Sequence[Sequence[Text]]) -> list[Found]:
    """What became of pictures, of which those that could be seen have `texts`, in their order."""
    own = iter(texts)
    return [one if isinstance(one, Found) else Found(one.name, tuple(next(own))) for one in some]


def looked_at(part: Part, sizes: Sequence[int]) -> Iterator[list[Seen | Found]]:
    """A part's pictures, a few at a time, the next of them being read meanwhile."""
    some: list[Seen | Found] = []
    for _, one in read_ahead(partial(_look, sizes=sizes), part.rows(), _TOGETHER):
        some.append(one)
        if len(some) == _TOGETHER:
            yield some
            some = []
    if some:
        yield some


def _look(row: Row | Found, sizes: Sequence[int]) -> Seen | Found:
    """A picture, decoded once and squashed to what the models see."""
    if isinstance(row, Found):
        return row
    try:
        return Seen(row.name, Looked(squashed(row.image(), sizes), row.texts))
    except ArtifactError as error:
        return Found(row.name, skipped=str(error))


_MINE: list[tuple[Bootstrap, Path]] = []


def _begin(models: Models, folder: Path) -> None:
    _MINE.append((models.open(), folder))


def _one(part: Part) -> None:
    bootstrap, folder = _MINE[0]
    bootstrap_part(part, folder, bootstrap, SILENT)

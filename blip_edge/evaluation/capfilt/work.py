"""The parts that are still to do, done: here, or by processes that each hold the models.

A process takes a part whenever it is free. If one dies the run ends with an error, and what the
others finished stays.
"""

import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, Self

from blip_edge.data.shards import Sample
from blip_edge.errors import ArtifactError, BlipEdgeError
from blip_edge.evaluation.capfilt.bootstrap import Bootstrap, Looked, squashed
from blip_edge.evaluation.capfilt.parts import (
    Found,
    Part,
    Row,
    Tar,
    add_to_tar,
    tar_of,
    write_part,
)
from blip_edge.evaluation.capfilt.recipe import CapfiltRecipe
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.picture_folder import read_ahead

__all__ = ["Models", "bootstrap_part", "do_parts"]

# Pictures that are captioned at once.
_TOGETHER = 16


class Models:
    """What a process needs to open the models for itself, which it does once."""

    def __init__(
        self,
        captioners: Sequence[Path],
        filters: Sequence[Path],
        recipe: CapfiltRecipe,
        seed: int,
        digests: dict[Path, str],
        threads: int | None = None,
    ) -> None:
        self._of = (captioners, filters, recipe, seed, threads, digests)
        self._open: Bootstrap | None = None

    def open(self) -> Bootstrap:
        """The models, ready to work; see `bootstrap.opened` for errors."""
        self._open = self._open or Bootstrap.open(*self._of)
        return self._open

    def closed(self) -> Self:
        """The same, to be opened by others."""
        self._open = None
        return self


def do_parts(
    parts: Sequence[Part],
    folder: Path,
    models: Models,
    *,
    processes: int = 1,
    progress: Progress = SILENT,
) -> Iterator[Part]:
    """Do all of `parts` into `folder`; each is told of when it is done, in any order.

    Raises:
        BlipEdgeError: a process died.
    """
    if processes == 1:
        bootstrap = models.open()
        for part in progress.track(parts, "bootstrapping", total=len(parts)):
            bootstrap_part(part, folder, bootstrap, progress)
            yield part
        return
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(models.closed(), folder),
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
    with ExitStack() as stack:
        archive = None
        if isinstance(part, Tar):
            draft = tar_of(folder, part.number).with_suffix(".draft")
            archive = stack.enter_context(tarfile.open(draft, "w"))
        for some in _looked(part, bootstrap.sizes):
            seen = [one for one in some if isinstance(one, _Seen)]
            texts = iter(bootstrap.texts([one.looked for one in seen]))
            for one in some:
                if isinstance(one, Found):
                    found.append(one)
                    continue
                own = tuple(next(texts))
                found.append(Found(one.row.name, own))
                sample = one.row.source
                if archive and isinstance(sample, Sample) and any(text.kept for text in own):
                    add_to_tar(archive, sample, own)
            progress.note(f"{len(found)} pictures of part {part.number}")
    if isinstance(part, Tar):
        draft.rename(tar_of(folder, part.number))
    write_part(folder, part.number, found)


class _Seen(NamedTuple):
    row: Row
    looked: Looked


def _looked(part: Part, sizes: Sequence[int]) -> Iterator[list[_Seen | Found]]:
    """A part's pictures, a few at a time, the next of them being read meanwhile."""
    some: list[_Seen | Found] = []
    for _, one in read_ahead(partial(_look, sizes=sizes), part.rows(), _TOGETHER):
        some.append(one)
        if len(some) == _TOGETHER:
            yield some
            some = []
    if some:
        yield some


def _look(row: Row | Found, sizes: Sequence[int]) -> _Seen | Found:
    """A picture, decoded once and squashed to what the models see."""
    if isinstance(row, Found):
        return row
    try:
        return _Seen(row, Looked(squashed(row.image(), sizes), row.texts))
    except ArtifactError as error:
        return Found(row.name, skipped=str(error))


_MINE: list[tuple[Bootstrap, Path]] = []


def _begin(models: Models, folder: Path) -> None:
    _MINE.append((models.open(), folder))


def _one(part: Part) -> None:
    bootstrap, folder = _MINE[0]
    bootstrap_part(part, folder, bootstrap, SILENT)

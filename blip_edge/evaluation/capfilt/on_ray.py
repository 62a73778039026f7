"""The parts done by a Ray cluster: reading, writing and judging are stages of their own size.

Ray Data starts as many actors of each stage as keep up with the others, holds a stage back that
runs ahead, and does again what was lost with a machine. What passes between stages are a few
pictures at the size that the models see. A part is put down once all of it has come back, so a
cluster that dies leaves whole parts, like one process does.

Source: https://docs.ray.io/en/latest/data/data.html
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from blip_edge.errors import BlipEdgeError, UsageError, import_extra
from blip_edge.evaluation.capfilt.bootstrap import Looked
from blip_edge.evaluation.capfilt.parts import Found, Part, finish_part
from blip_edge.evaluation.capfilt.texts import Text
from blip_edge.evaluation.capfilt.work import Models, Seen, looked_at, told
from blip_edge.progress import SILENT, Progress

__all__ = ["do_on_ray"]


@dataclass(frozen=True)
class _Chunk:
    """A few neighbours of a part, on their way through the stages."""

    part: int
    place: int
    """Which of the part's chunks."""
    last: bool
    pictures: list[Seen | Found]
    texts: list[list[Text]] | None = None
    """Of those that could be seen; None as long as nobody wrote down even the web's."""


_Row = dict[str, Any]
"""`{"chunk": _Chunk}`, or before it is read `{"part": Part}`."""


def do_on_ray(
    parts: Sequence[Part],
    folder: Path,
    models: Models,
    sizes: Sequence[int],
    *,
    address: str,
    actors: int,
    progress: Progress = SILENT,
) -> Iterator[Part]:
    """Do all of `parts` into `folder`; each is told of when it is done, in any order.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: there is no such cluster.
        BlipEdgeError: it gave up.
    """
    ray = import_extra("ray", "ray")
    import_extra("ray.data", "ray")
    mine = not ray.is_initialized()
    if mine:
        _join(ray, address)
    try:
        yield from _done(ray, parts, folder, models, sizes, actors, progress)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BlipEdgeError(f"Ray gave up: {reason}; go on with --resume") from None
    finally:
        if mine:
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    if address != "local":
        quiet.pop("include_dashboard")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it talks on stderr, past Python
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the Ray cluster {address} cannot be reached: {reason}") from None


def _done(
    ray: Any,
    parts: Sequence[Part],
    folder: Path,
    models: Models,
    sizes: Sequence[int],
    actors: int,
    progress: Progress,
) -> Iterator[Part]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = {part.number: part for part in parts}
    rows = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    rows = rows.flat_map(_read, fn_kwargs={"sizes": list(sizes)})
    accelerators = min(1.0, ray.cluster_resources().get("GPU", 0))
    # One stage has the captioners alone and the other the filters; who has none passes texts on.
    for half in (replace(models, filters=()), replace(models, captioners=())):
        if half.captioners or half.filters:
            rows = rows.map(
                _Stage,
                fn_constructor_args=(half,),
                concurrency=(1, actors),
                num_gpus=accelerators / 2 or None,
                # Nothing else is counted: a machine of one processor has to hold both stages.
                num_cpus=None if accelerators else 0.5,
            )
    come: dict[int, dict[int, list[Found]]] = {}
    length: dict[int, int] = {}
    bar = progress.track(_shown(rows.iter_rows(), come, length), "bootstrapping", total=len(parts))
    for number in bar:
        found = [one for _, some in sorted(come.pop(number).items()) for one in some]
        finish_part(numbers[number], folder, found)
        yield numbers[number]


def _shown(
    rows: Iterator[_Row], come: dict[int, dict[int, list[Found]]], length: dict[int, int]
) -> Iterator[int]:
    """Numbers of parts as they become whole; what came of them is put into `come`."""
    for row in rows:
        chunk: _Chunk = row["chunk"]
        number = chunk.part
        come.setdefault(number, {})[chunk.place] = told(chunk.pictures, chunk.texts or [])
        if chunk.last:
            length[number] = chunk.place + 1
        if len(come[number]) == length.get(number):
            yield number


def _read(row: _Row, sizes: Sequence[int]) -> Iterator[_Row]:
    """A part's pictures, a few to a row."""
    part: Part = row["part"]
    chunks = looked_at(part, sizes)
    now: list[Seen | Found] | None = next(chunks, [])
    for place in count():
        if now is None:
            return
        following = next(chunks, None)
        yield {"chunk": _Chunk(part.number, place, following is None, now)}
        now = following


class _Stage:
    """An actor that holds its models open."""

    def __init__(self, models: Models) -> None:
        self._bootstrap = models.open()

    def __call__(self, row: _Row) -> _Row:
        chunk: _Chunk = row["chunk"]
        looked = [one.looked for one in chunk.pictures if isinstance(one, Seen)]
        written = self._bootstrap.write(looked) if chunk.texts is None else chunk.texts
        return {"chunk": replace(chunk, texts=self._judged(looked, written))}

    def _judged(self, looked: Sequence[Looked], texts: list[list[Text]]) -> list[list[Text]]:
        pairs = zip(looked, texts, strict=True)
        return [self._bootstrap.judge(picture, own) for picture, own in pairs]

"""Folders of pictures, and pictures read just before they are needed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from blip_edge.errors import ArtifactError

__all__ = ["pictures_below", "read_ahead"]

T = TypeVar("T")
R = TypeVar("R")

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def pictures_below(folder: Path) -> list[str]:
    """Every picture in `folder` and in the folders in it, hidden ones left out, in order of names.

    Returns:
        Paths relative to `folder`.

    Raises:
        ArtifactError: it is no folder, or holds no pictures.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder of pictures")
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _ENDINGS and path.is_file()
    ]
    shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    if not shown:
        raise ArtifactError(f"{folder} holds no pictures ({', '.join(_ENDINGS)})")
    return shown


def read_ahead(work: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[tuple[T, R]]:
    """Each of `items` with what `work` makes of it, at most `most` of them in advance.

    One thread works while whoever asks is busy with what he has; items are taken as they are
    needed, and nothing is kept.
    """
    rest = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            waiting.extend((item, pool.submit(work, item)) for item in islice(rest, most))
            while waiting:
                item, made = waiting.popleft()
                yield item, made.result()
                del item, made  # may be a picture
                waiting.extend((item, pool.submit(work, item)) for item in islice(rest, 1))
        finally:
            pool.shutdown(cancel_futures=True)

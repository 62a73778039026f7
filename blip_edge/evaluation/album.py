"""Media of a data set as an evaluation opens them: those that do not open are counted."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.crew import ALONE, Crew
from blip_edge.preprocess import open_image

__all__ = ["Album", "Media", "Skipped", "groups"]

T = TypeVar("T")
M = TypeVar("M")


@dataclass(frozen=True)
class Skipped:
    """A picture or clip that could not be read, and so was left out."""

    image: str
    reason: str


class Media(ABC, Generic[M]):
    """Opens pictures or clips, and keeps count of those that do not open.

    Args:
        dataset: whose they are.
        number: how many there are.
        max_bad: the share of them that may be unreadable.
        crew: the processes that open them, each its share.
    """

    _kind = "media"

    def __init__(self, dataset: Dataset, number: int, max_bad: float, crew: Crew = ALONE) -> None:
        self._dataset, self._number, self._max_bad = dataset, number, max_bad
        self._crew = crew
        self._bad: dict[str, Skipped] = {}

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was left out, by whichever process; every one must ask.

        Raises:
            ArtifactError: it is too much, all together.
        """
        parts = self._crew.everyone(self._bad)
        self._bad = {image: one for part in parts for image, one in part.items()}
        self._check()
        return tuple(self._bad.values())

    def open(self, name: str) -> M | None:
        """What rows call by that name, or None if it cannot be read.

        Raises:
            ArtifactError: it is one too many.
        """
        if name in self._bad:
            return None
        try:
            return self._read(name)
        except ArtifactError as error:
            self._bad[name] = Skipped(name, str(error))
            self._check()
            return None

    def _check(self) -> None:
        if len(self._bad) > self._max_bad * self._number:
            *_, last = self._bad.values()
            raise ArtifactError(
                f"{self._dataset.folder}: {len(self._bad)} of {self._number} {self._kind} "
                f"cannot be read, which is too many; the last: {last.reason}"
            )

    @abstractmethod
    def _read(self, name: str) -> M:
        """The one of that name.

        Raises:
            ArtifactError: it cannot be read.
        """


class Album(Media[Image.Image]):
    """Opens pictures by their paths relative to the image root."""

    _kind = "pictures"

    def _read(self, name: str) -> Image.Image:
        return open_image(self._dataset.image_path(name))


def groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in order, at most `size` at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]

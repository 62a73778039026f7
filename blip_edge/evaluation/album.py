"""Pictures of a data set as an evaluation opens them: those that do not open are counted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import open_image

__all__ = ["Album", "Skipped", "groups"]

T = TypeVar("T")


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and so was left out."""

    image: str
    reason: str


class Album:
    """Opens pictures, and keeps count of those that do not open.

    Args:
        dataset: whose pictures they are.
        pictures: how many there are.
        max_bad: the share of them that may be unreadable.
    """

    def __init__(self, dataset: Dataset, pictures: int, max_bad: float) -> None:
        self._dataset, self._pictures, self._max_bad = dataset, pictures, max_bad
        self._bad: dict[str, Skipped] = {}

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was left out, in the order in which it was met."""
        return tuple(self._bad.values())

    def open(self, image: str) -> Image.Image | None:
        """The picture at a path relative to the image root, or None if it cannot be read.

        Raises:
            ArtifactError: it is one too many.
        """
        if image in self._bad:
            return None
        try:
            return open_image(self._dataset.image_path(image))
        except ArtifactError as error:
            self._skip(image, error)
            return None

    def _skip(self, image: str, error: ArtifactError) -> None:
        self._bad[image] = Skipped(image, str(error))
        if len(self._bad) > self._max_bad * self._pictures:
            raise ArtifactError(
                f"{self._dataset.folder}: {len(self._bad)} of {self._pictures} pictures cannot be "
                f"read, which is too many; the last: {error}"
            )


def groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in order, at most `size` at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]

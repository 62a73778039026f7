"""Pictures that a verb was given by their names or in folders, and those that cannot be read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from blip_edge.cli.output import complain
from blip_edge.errors import ArtifactError

if TYPE_CHECKING:
    from blip_edge.progress import Progress

__all__ = ["Pictures"]

T = TypeVar("T")


class Pictures:
    """All pictures that were asked for, in their order.

    One that cannot be read is a mistake where it was asked for by its name. In a folder a few of
    them are to be expected: they are listed at the end.

    Args:
        given: pictures, and folders that are searched with all folders in them.
        max_bad: the share of the pictures in folders that may be unreadable.

    Raises:
        ArtifactError: a folder that holds no pictures.
    """

    def __init__(self, given: Sequence[Path], *, max_bad: float) -> None:
        from blip_edge.runtime.picture_folder import pictures_below

        self._folders = [path for path in given if path.is_dir()]
        self._named = set(given).difference(self._folders)
        self._max_bad = max_bad
        self.paths = [
            picture
            for path in given
            for picture in (
                [path / name for name in pictures_below(path)] if path.is_dir() else [path]
            )
        ]
        self._in_folders = sum(path not in self._named for path in self.paths)
        self._missed = False
        self._skipped: list[ArtifactError] = []

    def tracked(self, found: Iterator[T], progress: "Progress") -> Iterator[T]:
        """`found` unchanged, with a bar if there is a folder of it."""
        if not self._folders:
            return found
        return progress.track(found, "captioning", total=len(self.paths))

    def skip(self, path: Path, error: ArtifactError) -> None:
        """Count a picture that cannot be read.

        Raises:
            ArtifactError: it is one too many.
        """
        if path in self._named:
            complain(f"error: {error}")
            self._missed = True
            return
        self._skipped.append(error)
        bad, most = len(self._skipped), self._in_folders
        if bad > self._max_bad * most:
            where = ", ".join(map(str, self._folders))
            raise ArtifactError(
                f"{where}: {bad} of {most} pictures cannot be read, more than {self._max_bad:.0%} "
                f"(--max-bad): {error}"
            )

    def report(self) -> bool:
        """List what was left out; whether something was that had been asked for by its name."""
        if self._skipped:
            count = f"{len(self._skipped)} of {self._in_folders}"
            complain(f"left out {count} pictures, which cannot be read:")
            for error in self._skipped:
                complain(f"  {error}")
        return self._missed

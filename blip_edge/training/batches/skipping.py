"""What a run does without: pictures that cannot be read, and rows that have nothing to learn."""

import json
from pathlib import Path
from typing import NamedTuple

from blip_edge.errors import ArtifactError
from blip_edge.progress import Progress
from blip_edge.training import processes

__all__ = ["LeftOut", "Skipped"]


class LeftOut(NamedTuple):
    """A row that nothing can be learned from."""

    image: str
    reason: str


class Skipped:
    """A list of them, and a limit: no more than the share `max_bad` of pictures, or of rows.

    Args:
        where: what the rows are of, named in errors.
        pictures: how many different ones the rows have.
        rows: how many there are, those that are left out included.
        left_out: rows without anything to learn.
        max_bad: between 0 and 1. Every process counts the pictures that it met.

    Raises:
        ArtifactError: too many rows are left out.
    """

    def __init__(
        self, where: str, pictures: int, rows: int, left_out: list[LeftOut], max_bad: float
    ) -> None:
        self._where, self._total, self._max_bad = where, pictures, max_bad
        self.pictures: dict[str, str] = {}
        """Those that cannot be read, and why."""
        self.left_out = left_out
        if len(left_out) > max_bad * rows:
            raise ArtifactError(
                f"{len(left_out)} of {rows} rows of {where} have nothing to learn, more than "
                f"max_bad = {max_bad:g} allows; the last one: {left_out[-1].reason}; mend such "
                "rows or raise max_bad"
            )

    def add(self, image: str, why: str) -> None:
        """Count a picture, once.

        Raises:
            ArtifactError: it is one too many.
        """
        if image in self.pictures:
            return
        self.pictures[image] = why
        if len(self.pictures) > self._max_bad * self._total:
            raise ArtifactError(
                f"{len(self.pictures)} of {self._total} pictures cannot be read, more than "
                f"max_bad = {self._max_bad:g} allows; the last one: {why}; raise max_bad and go on "
                "with --resume"
            )

    def require_any(self, found: bool) -> None:
        """Refuse to go on for ever without a picture.

        Raises:
            ArtifactError: in an epoch none was found.
        """
        if not found:
            raise ArtifactError(f"{self._where}: none of the pictures can be read")

    def report(self, folder: Path, progress: Progress) -> None:
        """List them in `skipped.jsonl`, if there are any, and say how many.

        Of several processes each must call it; the first writes what all of them met.
        """
        pictures = {
            image: why for mine in processes.everyone(self.pictures) for image, why in mine.items()
        }
        if not (pictures or self.left_out) or processes.rank() > 0:
            return
        lines = [_line(image, why) for image, why in [*pictures.items(), *self.left_out]]
        (folder / "skipped.jsonl").write_text("".join(lines), encoding="utf-8")
        if pictures:
            progress.say(f"warning: {len(pictures)} pictures could not be read; see skipped.jsonl")
        if self.left_out:
            progress.say(
                f"warning: {len(self.left_out)} rows had nothing to learn; see skipped.jsonl"
            )


def _line(image: str, why: str) -> str:
    return json.dumps({"image": image, "reason": why}, ensure_ascii=False) + "\n"

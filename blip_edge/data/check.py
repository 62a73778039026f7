"""Read a whole data set once, and list every row and picture that could not be used."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json
from blip_edge.data.dataset import Dataset
from blip_edge.data.files import boxes, dialogs, listed, parsed
from blip_edge.data.rows import (
    Box,
    CaptionRow,
    ClipQuestionRow,
    ClipRow,
    Dialog,
    Fields,
    QueryRow,
    QuestionRow,
    SentenceRow,
)
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import open_image
from blip_edge.progress import SILENT, Progress

__all__ = ["BadRow", "CheckReport", "check"]

_READERS: dict[str, Callable[[Fields], Any]] = {
    "web_": CaptionRow.read,
    "caption_": CaptionRow.read,
    "retrieval_": CaptionRow.read,
    "vqa_": QuestionRow.read,
    "nlvr_": SentenceRow.read,
    "pairs_": QueryRow.read,
    "video_retrieval_": ClipRow.read,
    "video_qa_": ClipQuestionRow.read,
}

# Animated pictures open without further packages; of a real video only the file is looked for.
_ANIMATED = (".gif", ".webp", ".png")


@dataclass(frozen=True)
class BadRow:
    """Something in a data set that cannot be used."""

    file: str
    """The annotation file."""
    row: int | None
    """The row's number, from 0; None when it is about the file as a whole."""
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, and what is wrong with it."""

    rows: dict[str, int]
    """Rows of each annotation file that was read, good or bad."""
    images: int
    """Different pictures and clips that rows name."""
    bad: tuple[BadRow, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.bad


def check(data: Dataset | Path | str, *, progress: Progress = SILENT) -> CheckReport:
    """Read every annotation file of a data set, and open every picture that its rows name.

    Raises:
        ArtifactError: it is no data set; anything less is listed in the report.
    """
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    media = _Media(dataset)
    rows: dict[str, int] = {}
    bad: list[BadRow] = []
    for path in sorted(dataset.folder.glob("*.json*")):
        try:
            found = list(_rows(path))
        except ArtifactError as error:
            bad.append(BadRow(path.name, None, str(error)))
            continue
        if found:
            rows[path.name] = len(found)
        looked_at = progress.track(found, f"checking {path.name}", total=len(found))
        for number, row in enumerate(looked_at):
            reasons = [str(row)] if isinstance(row, ArtifactError) else media.wrong(row)
            bad.extend(BadRow(path.name, number, reason) for reason in reasons)
    if not rows and not bad:
        bad.append(BadRow("dataset.json", None, f"{dataset.folder} has no annotation files"))
    return CheckReport(rows, media.seen, tuple(bad))


def _rows(path: Path) -> Iterable[Any]:
    """The rows of an annotation file, told by its name; none of a file of another sort."""
    if path.name.startswith("visdial_") and not path.stem.endswith("_dense"):
        return dialogs(path)
    if path.name.startswith("attributes_"):
        return boxes(path)
    for start, read in _READERS.items():
        if path.name.startswith(start) and not path.stem.endswith("_key"):
            return parsed(listed(path), read, str(path))
    read_json(path)  # a file of another sort must still be JSON
    return ()


class _Media:
    """Pictures and clips, each opened once however many rows name it."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._wrong: dict[tuple[str, str], str | None] = {}

    @property
    def seen(self) -> int:
        return len(self._wrong)

    def wrong(self, row: Any) -> Iterator[str]:
        """What is wrong with the pictures and clips that `row` names."""
        for sort, names in (("image", _images(row)), ("clip", _clips(row))):
            for name in names:
                if (sort, name) not in self._wrong:
                    self._wrong[sort, name] = self._open(sort, name)
                if reason := self._wrong[sort, name]:
                    yield reason

    def _open(self, sort: str, name: str) -> str | None:
        try:
            if sort == "image":
                open_image(self._dataset.image_path(name))
            elif (path := self._dataset.clip_path(name)).suffix in _ANIMATED:
                open_image(path)
        except ArtifactError as error:
            return str(error)
        return None


def _images(row: Any) -> tuple[str, ...]:
    if isinstance(row, SentenceRow):
        return row.images
    if isinstance(row, CaptionRow | QuestionRow | QueryRow | Dialog | Box):
        return (row.image,)
    return ()


def _clips(row: Any) -> tuple[str, ...]:
    return (row.clip,) if isinstance(row, ClipRow | ClipQuestionRow) else ()

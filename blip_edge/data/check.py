"""Read a whole data set once, and list every row and picture that could not be used.

Pictures are opened on all cores; the report has the order of the files and rows all the same.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blip_edge.data.dataset import Dataset
from blip_edge.data.files import boxes, dialogs, document, listed, parsed
from blip_edge.data.parallel import in_order
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
from blip_edge.data.shards import DamagedShard, expand, read_shard
from blip_edge.data.video import ANIMATED, frames
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import open_image
from blip_edge.progress import SILENT, Progress
from blip_edge.text import clean_caption

__all__ = ["BadRow", "CheckReport", "check", "check_shards"]

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

_Medium = tuple[str, str]  # "image" or "clip", and its name


@dataclass(frozen=True)
class BadRow:
    """Something in a data set that cannot be used."""

    file: str
    """The annotation file, or the shard."""
    row: int | None
    """The row's or sample's number, from 0; None when it is about the file as a whole."""
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, and what is wrong with it."""

    rows: dict[str, int]
    """Rows of each annotation file, or samples of each shard, that were read, good or bad."""
    images: int
    """Different pictures and clips that rows name; of shards the pictures that could be opened."""
    bad: tuple[BadRow, ...]

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.bad


def check(data: Dataset | Path | str, *, progress: Progress = SILENT) -> CheckReport:
    """Read every annotation file of a data set, and open every picture that its rows name.

    Texts of which cleaning leaves nothing are listed too.

    Raises:
        ArtifactError: it is no data set; anything less is listed in the report.
    """
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    media = _Media(dataset, progress)
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
        media.open(path.name, found)
        for number, row in enumerate(found):
            reasons = [str(row)] if isinstance(row, ArtifactError) else _wrong(row, media)
            bad.extend(BadRow(path.name, number, reason) for reason in reasons)
    if not rows and not bad:
        bad.append(BadRow("dataset.json", None, f"{dataset.folder} has no annotation files"))
    return CheckReport(rows, media.seen, tuple(bad))


def check_shards(names: Iterable[str | Path], *, progress: Progress = SILENT) -> CheckReport:
    """Read every sample of WebDataset tars, and open every picture; braces stand for many tars.

    Raises:
        ArtifactError: a tar is missing; anything less is listed in the report.
    """
    paths = expand(names)
    reports = progress.track(in_order(_shard, paths), "checking shards", total=len(paths))
    rows, images, bad = dict[str, int](), 0, list[BadRow]()
    for path, (samples, wrong) in zip(paths, reports, strict=True):
        rows[str(path)] = samples
        images += samples - len({row.row for row in wrong if row.row is not None})
        bad += wrong
    return CheckReport(rows, images, tuple(bad))


def _shard(path: Path) -> tuple[int, list[BadRow]]:
    """How many samples a shard has, and what is wrong with which."""
    samples = 0
    bad: list[BadRow] = []
    for number, sample in enumerate(read_shard(path)):
        try:
            if isinstance(sample, ArtifactError):
                raise sample
            sample.image()
        except ArtifactError as error:
            whole = isinstance(error, DamagedShard)
            bad.append(BadRow(str(path), None if whole else number, str(error)))
            samples -= whole
        samples += 1
    if samples == 0 and not bad:
        bad.append(BadRow(str(path), None, f"{path} holds no samples"))
    return samples, bad


def _rows(path: Path) -> Iterable[Any]:
    """The rows of an annotation file, told by its name; none of a file of another sort."""
    if path.name.startswith("visdial_") and not path.stem.endswith("_dense"):
        return dialogs(path)
    if path.name.startswith("attributes_"):
        return boxes(path)
    for start, read in _READERS.items():
        if path.name.startswith(start) and not path.stem.endswith("_key"):
            return parsed(listed(path), read, str(path))
    document(path)  # a file of another sort must still be JSON
    return ()


def _wrong(row: Any, media: "_Media") -> list[str]:
    """What is wrong with a row that was read: its pictures, and texts that training leaves out."""
    silent = [text for text in _texts(row) if not clean_caption(text).strip("?")]
    return [*media.wrong(row), *(f"its text {text!r:.40} has no words" for text in silent)]


def _texts(row: Any) -> Iterable[str]:
    if isinstance(row, CaptionRow):
        return row.captions
    if isinstance(row, SentenceRow):
        return (row.sentence,)
    if isinstance(row, Dialog):
        return (turn.question for turn in row.rounds)
    return (row.question,) if isinstance(row, QuestionRow) else ()


class _Media:
    """Pictures and clips, each opened once however many rows name it."""

    def __init__(self, dataset: Dataset, progress: Progress) -> None:
        self._dataset = dataset
        self._progress = progress
        self._wrong: dict[_Medium, str | None] = {}
        # Without PyAV only animated pictures are opened; of a video the file is looked for.
        self._videos = find_spec("av") is not None

    @property
    def seen(self) -> int:
        return len(self._wrong)

    def open(self, file: str, rows: Iterable[Any]) -> None:
        """Open what `rows` name and no rows before them did."""
        named = dict.fromkeys(medium for row in rows for medium in _media(row))
        new = [medium for medium in named if medium not in self._wrong]
        found = self._progress.track(in_order(self._open, new), f"checking {file}", total=len(new))
        self._wrong |= zip(new, found, strict=True)

    def wrong(self, row: Any) -> Iterator[str]:
        """What is wrong with the pictures and clips that `row` names."""
        reasons = (self._wrong[medium] for medium in _media(row))
        return (reason for reason in reasons if reason is not None)

    def _open(self, medium: _Medium) -> str | None:
        sort, name = medium
        try:
            if sort == "image":
                open_image(self._dataset.image_path(name))
            else:
                path = self._dataset.clip_path(name)
                if path.suffix in ANIMATED or self._videos:
                    frames(path, 2)  # the first and the last
        except ArtifactError as error:
            return str(error)
        return None


def _media(row: Any) -> list[_Medium]:
    return [*(("image", name) for name in _images(row)), *(("clip", name) for name in _clips(row))]


def _images(row: Any) -> tuple[str, ...]:
    if isinstance(row, SentenceRow):
        return row.images
    if isinstance(row, CaptionRow | QuestionRow | QueryRow | Dialog | Box):
        return (row.image,)
    return ()


def _clips(row: Any) -> tuple[str, ...]:
    return (row.clip,) if isinstance(row, ClipRow | ClipQuestionRow) else ()

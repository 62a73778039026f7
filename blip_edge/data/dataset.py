"""A DATA folder: `dataset.json`, pictures, and annotation files in BLIP's own row formats.

    data = Dataset.open("data/shapes")
    for row in data.captions("train"):
        image = open_image(data.image_path(row.image))

Annotations are read when asked for and pictures not at all, so that a results file can be scored
where the pictures are not.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from blip_edge.artifact import inside, kind, read_json, sha256_file
from blip_edge.data.files import answers, attributes, boxes, dialogs, listed, parsed, strict
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

__all__ = ["CLIP_ENDINGS", "Dataset"]

R = TypeVar("R")

CLIP_ENDINGS = (".mp4", ".webm", ".avi", ".mkv", ".gif", ".webp", ".png")
"""How a clip's file may end; the last three are animated pictures, which Pillow reads."""

# Files that say when and how, not what.
_OURS = frozenset({"provenance.json", "metrics.json", "skipped.jsonl"})


@dataclass(frozen=True)
class Dataset:
    """One data set on disk."""

    folder: Path
    name: str
    version: str
    license: str
    image_root: str = "images"
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> "Dataset":
        """Read `dataset.json`.

        Raises:
            ArtifactError: `folder` is not a data set, or its `dataset.json` lacks a field.
        """
        folder = Path(folder)
        if (found := kind(folder)) != "data":
            raise ArtifactError(f"{folder} is a {found}, not a data set (dataset.json)")
        path = folder / "dataset.json"
        fields = Fields(read_json(path), str(path))
        root = fields.text("image_root", "images")
        # The folder itself may be a link to where the pictures are; its name may not lead away.
        if Path(root).is_absolute() or ".." in Path(root).parts:
            raise fields.wrong("image_root", f"{root!r} leaves the folder")
        counts: dict[str, int] = read_json(path).get("counts", {})
        name, version, license = (fields.text(key) for key in ("name", "version", "license"))
        return cls(folder, name, version, license, root, counts)

    def image_path(self, relative: str) -> Path:
        """Where a picture is.

        Raises:
            ArtifactError: `relative` leads out of the image root.
        """
        return inside(self.folder / self.image_root, relative)

    def clip_path(self, clip: str) -> Path:
        """Where a clip is, whatever its file's ending.

        Raises:
            ArtifactError: there is none of that name, or the name leads out of the folder.
        """
        stem = inside(self.folder / "videos", clip)
        for path in (stem.with_name(stem.name + ending) for ending in CLIP_ENDINGS):
            if path.is_file():
                return path
        raise ArtifactError(f"{stem} is missing: no file ends in {', '.join(CLIP_ENDINGS)}")

    def has(self, annotation: str) -> bool:
        """Whether the annotation file is there, such as `caption_test.json`."""
        return (self.folder / annotation).is_file()

    def captions(self, split: str) -> list[CaptionRow]:
        """Captions: BLIP's `train` has a row for each one, other splits a row for each picture."""
        return self._rows(f"caption_{split}.json", CaptionRow.read)

    def retrieval(self, split: str) -> list[CaptionRow]:
        """The same for retrieval, where a data set has rows of its own for it."""
        own = f"retrieval_{split}.json"
        return self._rows(own, CaptionRow.read) if self.has(own) else self.captions(split)

    def web(self, split: str = "train") -> list[CaptionRow]:
        """Noisy web captions, one a row."""
        return self._rows(f"web_{split}.json", CaptionRow.read)

    def questions(self, split: str) -> list[QuestionRow]:
        """Questions with ten people's answers, or with one."""
        return self._rows(f"vqa_{split}.json", QuestionRow.read)

    def answers(self) -> list[str]:
        """The answers that are ranked when a question is not answered freely."""
        return answers(self.folder / "answer_list.json")

    def sentences(self, split: str) -> list[SentenceRow]:
        """NLVR2: sentences about two pictures; splits train, dev, test."""
        return self._rows(f"nlvr_{split}.json", SentenceRow.read)

    def queries(self, split: str = "test") -> list[QueryRow]:
        """Pictures with texts that they are relevant to, or not."""
        return self._rows(f"pairs_{split}.json", QueryRow.read)

    def clips(self, split: str = "test") -> list[ClipRow]:
        """Clips with their captions."""
        return self._rows(f"video_retrieval_{split}.jsonl", ClipRow.read)

    def clip_questions(self, split: str = "test") -> list[ClipQuestionRow]:
        """Questions about clips."""
        return self._rows(f"video_qa_{split}.jsonl", ClipQuestionRow.read)

    def dialogs(self, split: str) -> list[Dialog]:
        """VisDial 1.0, with the dense relevance of `visdial_{split}_dense.json` if it is there."""
        return strict(dialogs(self.folder / f"visdial_{split}.json"))

    def boxes(self, split: str = "test") -> tuple[list[dict[str, Any]], list[Box]]:
        """OVAD: the attributes as they are described, and the boxes that have them or not."""
        path = self.folder / f"attributes_{split}.json"
        return attributes(path), strict(boxes(path))

    def digest(self) -> str:
        """One sha256 over the annotation files' bytes and the pictures' names and sizes."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.json*")):
            if path.name not in _OURS and not path.name.startswith("."):
                digest.update(f"{path.name}\0{sha256_file(path)}\n".encode())
        for root in (self.folder / self.image_root, self.folder / "videos"):
            for name, size in sorted(_files(root)):
                digest.update(f"{name}\0{size}\n".encode())
        return digest.hexdigest()

    def _rows(self, file: str, read: Callable[[Fields], R]) -> list[R]:
        path = self.folder / file
        return strict(parsed(listed(path), read, str(path)))


def _files(root: Path) -> Iterator[tuple[str, int]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            with suppress(OSError):  # a link to nothing is no file
                yield path.relative_to(root).as_posix(), path.stat().st_size

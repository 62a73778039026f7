"""What is bootstrapped, in parts: rows of a data set, or tars.

A part that is done is a file, which gets its name last: whoever is killed leaves whole parts, and a
later run does the others. So every picture is in the output once.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from blip_edge.data.dataset import Dataset
from blip_edge.data.files import listed
from blip_edge.data.rows import Fields
from blip_edge.data.shards import Damage, Sample, read_shard
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.capfilt.texts import Text
from blip_edge.preprocess import open_image

__all__ = [
    "Found",
    "Part",
    "Row",
    "Rows",
    "Tar",
    "finish_part",
    "is_done",
    "read_part",
    "row_parts",
    "tar_of",
]


@dataclass(frozen=True)
class Row:
    """A picture that can be opened, and the web's texts of it."""

    name: str
    """Its path in the data set, or its key in the tar."""
    texts: tuple[str, ...]
    source: Path | Sample
    """The picture's file, or the sample that holds it."""

    def image(self) -> Image.Image:
        """The picture, decoded, as RGB.

        Raises:
            ArtifactError: it cannot be.
        """
        return self.source.image() if isinstance(self.source, Sample) else open_image(self.source)


@dataclass(frozen=True)
class Found:
    """What became of a picture: its texts, or why it was left out."""

    name: str
    texts: tuple[Text, ...] = ()
    skipped: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A line of a part."""
        if self.skipped is not None:
            return {"image": self.name, "skipped": self.skipped}
        return {"image": self.name, "texts": [text.to_json() for text in self.texts]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Found":
        """The same back."""
        texts = tuple(Text.from_json(one) for one in values.get("texts", ()))
        return cls(values["image"], texts, values.get("skipped"))


@dataclass(frozen=True)
class Rows:
    """Some pictures of a data set."""

    number: int
    folder: Path
    pictures: tuple[tuple[str, tuple[str, ...]], ...]
    """Path and texts of each."""

    def rows(self) -> Iterator[Row | Found]:
        """Each picture, none of them opened."""
        dataset = Dataset.open(self.folder)
        for name, texts in self.pictures:
            try:
                yield Row(name, texts, dataset.image_path(name))
            except ArtifactError as error:
                yield Found(name, skipped=str(error))


@dataclass(frozen=True)
class Tar:
    """All pictures of one tar."""

    number: int
    path: Path

    def rows(self) -> Iterator[Row | Found]:
        """Each sample, its picture not decoded, and what is wrong with the others."""
        for sample in read_shard(self.path, textless=True):
            if isinstance(sample, Damage):
                yield Found(sample.where, skipped=str(sample))
            else:
                yield Row(sample.key, sample.captions, sample)


Part = Rows | Tar


def row_parts(dataset: Dataset, size: int) -> list[Rows]:
    """The pictures of `web_train.json`, each once, with all its texts, `size` to a part.

    A row without a caption is a picture that nothing is said of yet.

    Raises:
        ArtifactError: there are none, or a row names no picture.
    """
    path = dataset.folder / "web_train.json"
    texts: dict[str, list[str]] = {}
    for number, value in enumerate(listed(path)):
        row = Fields(value, f"{path}: row {number}")
        own = texts.setdefault(row.text("image"), [])
        own += row.texts("caption") if row.has("caption") else ()
    if not texts:
        raise ArtifactError(f"{path} has no rows; there is nothing to bootstrap")
    pictures = [(name, tuple(own)) for name, own in texts.items()]
    starts = range(0, len(pictures), size)
    return [
        Rows(number, dataset.folder, tuple(pictures[start : start + size]))
        for number, start in enumerate(starts)
    ]


def finish_part(part: Part, folder: Path, found: Sequence[Found]) -> None:
    """Put down what became of a part's pictures; with this it is done.

    A tar is read a second time, its pictures not decoded, and becomes one of the texts that stay.
    """
    if isinstance(part, Tar):
        _write_tar(part, folder, found)
    lines = (json.dumps(one.to_json(), ensure_ascii=False) for one in found)
    draft = folder / f".part-{part.number:06}.jsonl"
    draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    draft.rename(_part(folder, part.number))


def is_done(folder: Path, number: int) -> bool:
    """Whether a part is."""
    return _part(folder, number).is_file()


def read_part(folder: Path, number: int) -> Iterator[Found]:
    """What became of a part's pictures, in their order."""
    with _part(folder, number).open(encoding="utf-8") as lines:
        for line in lines:
            yield Found.from_json(json.loads(line))


def tar_of(folder: Path, number: int) -> Path:
    """Where the tar of a part is, whose input was a tar."""
    return folder / f"{number:06}.tar"


def _write_tar(part: Tar, folder: Path, found: Sequence[Found]) -> None:
    """Samples as `data.shards` reads them: the pictures' own bytes, and the texts that stay."""
    draft = folder / f".{part.number:06}.tar"
    with tarfile.open(draft, "w") as archive:
        for row, one in zip(part.rows(), found, strict=True):
            texts = [text.to_json() for text in one.texts if text.kept]
            if texts and isinstance(row, Row) and isinstance(row.source, Sample):
                _add(archive, f"{row.name}.{row.source.ending}", row.source.data)
                _add(archive, f"{row.name}.json", json.dumps(texts, ensure_ascii=False).encode())
    draft.rename(tar_of(folder, part.number))


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # of no date and nobody's, so that equal tars are equal files
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06}.jsonl"

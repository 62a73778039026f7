"""Pictures and captions in WebDataset tars, as web-scale sets such as LAION are kept.

    shards = Shards.open(["laion/{00000..00499}.tar"], seed=0, parts=5)
    for pair in shards.pairs(epoch=3):
        image = pair.image()

Files of one sample follow each other and share a key, the name up to its first dot: `000017.jpg`
and `000017.json`. The JSON is an object with "caption", or a list of candidate captions (texts, or
objects with "caption") of which one is taken by chance; without a JSON a `.txt` is the caption.
Nothing is unpacked to disk. Like the readers of annotation files, this one yields in the place of a
sample the error that says what is wrong with it.
"""

import io
import itertools
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, Self, TypeVar

from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.preprocess import MAX_PIXELS

__all__ = ["DamagedShard", "Pair", "Sample", "Shards", "expand", "read_shard"]

T = TypeVar("T")

_PICTURES = ("jpg", "jpeg", "png", "webp")
_NO_TAR = (tarfile.TarError, EOFError, OSError, zlib.error)


class DamagedShard(ArtifactError):
    """A tar that cannot be read, or not to its end."""


@dataclass(frozen=True)
class _Picture:
    """A picture of a shard."""

    shard: Path
    key: str
    data: bytes
    """The picture's file."""

    def image(self) -> Image.Image:
        """The picture, decoded, as RGB.

        Raises:
            ArtifactError: it cannot be decoded, or has more than 178 megapixels.
        """
        return _decoded(self.data, f"{self.shard}: {self.key}")


@dataclass(frozen=True)
class Sample(_Picture):
    """A picture with all that may be said of it."""

    captions: tuple[str, ...]


@dataclass(frozen=True)
class Pair(_Picture):
    """A picture and one caption."""

    caption: str


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Shards that are read epoch after epoch, in an order that the seed decides."""

    paths: tuple[Path, ...]
    seed: int = 0
    parts: int = 1
    """An epoch reads one part of so many: BLIP reads a fifth of LAION, epoch e the shards whose
    number is e modulo 5."""
    shuffle: int = 1000
    """Pairs that are held to draw the next one from."""
    resampled: bool = False
    """Draw shards with replacement and without end, so that any number of processes keep pace."""
    rank: int = 0
    """Which of `processes` this one is."""
    processes: int = 1

    @classmethod
    def open(cls, names: Iterable[str | Path], **options: Any) -> Self:
        """Shards by their names, in which braces are expanded.

        Raises:
            ArtifactError: a shard is missing, or they do not divide among the processes.
            UsageError: an option makes no sense.
        """
        return cls(paths=tuple(expand(names)), **options)

    def __post_init__(self) -> None:
        if not 1 <= self.parts <= len(self.paths):
            raise UsageError(f"{len(self.paths)} shards cannot be read in {self.parts} parts")
        if not 0 <= self.rank < self.processes or self.shuffle < 1:
            raise UsageError(f"no rank {self.rank} of {self.processes}, or shuffle below 1")
        uneven = [e for e in range(self.parts) if len(self._part(e)) % self.processes]
        if uneven and not self.resampled:
            raise ArtifactError(
                f"the {len(self._part(uneven[0]))} shards of epoch {uneven[0]} do not divide among "
                f"{self.processes} processes; read them resampled, or give another number"
            )

    def pairs(self, epoch: int) -> Iterator[Pair | ArtifactError]:
        """The pairs of an epoch; the same seed and epoch give the same ones in the same order."""
        rng = Random(f"{self.seed}/{epoch}/{self.rank}")
        found = (
            sample if isinstance(sample, ArtifactError) else self._chosen(sample, epoch)
            for path in self._order(epoch)
            for sample in read_shard(path)
        )
        return _shuffled(found, self.shuffle, rng)

    def _part(self, epoch: int) -> tuple[Path, ...]:
        return self.paths[epoch % self.parts :: self.parts]

    def _order(self, epoch: int) -> Iterator[Path]:
        part = list(self._part(epoch))
        if self.resampled:
            drawn = Random(f"{self.seed}/{epoch}/{self.rank}/shards")
            return (drawn.choice(part) for _ in itertools.count())
        # The same order in all processes, of which each takes its share.
        Random(f"{self.seed}/{epoch}").shuffle(part)
        return iter(part[self.rank :: self.processes])

    def _chosen(self, sample: Sample, epoch: int) -> Pair:
        """The pair that a sample is in this epoch, whichever samples stand before it."""
        key = f"{self.seed}/{epoch}/{sample.shard.name}/{sample.key}"
        number = int.from_bytes(sha256(key.encode()).digest()[:8], "big")
        caption = sample.captions[number % len(sample.captions)]
        return Pair(sample.shard, sample.key, sample.data, caption)


def expand(names: Iterable[str | Path]) -> list[Path]:
    """Files by their names: `{000..127}` stands for numbers of that width, `{a,b}` for words.

    Raises:
        ArtifactError: one is missing.
    """
    paths = [Path(name) for text in names for name in _braces(str(text))]
    for path in paths:
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: there is no such shard")
    return paths


def _braces(text: str) -> Iterator[str]:
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        yield text
        return
    inside = match.group(1)
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if numbers:
        low, high = numbers.groups()
        width = len(low) if low.startswith("0") else 0
        words = [f"{number:0{width}d}" for number in range(int(low), int(high) + 1)]
    else:
        words = inside.split(",")
    for word in words:
        yield from _braces(f"{text[: match.start()]}{word}{text[match.end() :]}")


def read_shard(path: Path) -> Iterator[Sample | ArtifactError]:
    """The samples of one tar in their order, then what is wrong with the tar as a whole."""
    try:
        with tarfile.open(path, "r:*") as archive:
            for key, files in itertools.groupby(_files(archive), key=lambda file: file[0]):
                yield _sample(path, key, [(member, ending) for _, member, ending in files], archive)
            _check_end(archive)
    except _NO_TAR as error:
        reason = str(error) or type(error).__name__
        yield DamagedShard(f"{path} is damaged or truncated: {reason}")


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo, str]]:
    """Key, member and ending of every file."""
    for member in archive:
        if not member.isdir():
            name = PurePosixPath(member.name)
            stem, _, ending = name.name.partition(".")
            yield (name.parent / stem).as_posix(), member, ending.lower()


def _sample(
    path: Path, key: str, files: Sequence[tuple[tarfile.TarInfo, str]], archive: tarfile.TarFile
) -> Sample | ArtifactError:
    data: bytes | None = None
    texts: dict[str, bytes] = {}
    for member, ending in files:
        climbs = member.name.startswith("/") or ".." in PurePosixPath(member.name).parts
        if climbs or not member.isfile():
            what = "leaves the folder" if climbs else "is a link"
            return ArtifactError(f"{path}: the member {member.name!r} {what}; it is not followed")
        file = archive.extractfile(member)
        assert file is not None  # it is a file
        if ending in _PICTURES:
            data = file.read()
        elif ending in ("json", "txt"):
            texts[ending] = file.read()
    if data is None:
        return ArtifactError(f"{path}: {key} has no picture ({', '.join(_PICTURES)})")
    try:
        return Sample(path, key, data, _captions(texts))
    except ValueError as error:  # JSON's and Unicode's errors too
        return ArtifactError(f"{path}: {key} {error}")


def _captions(texts: dict[str, bytes]) -> tuple[str, ...]:
    """The captions of a sample.

    Raises:
        ValueError: it has none; the words go on after "the sample".
    """
    if "json" in texts:
        try:
            value = json.loads(texts["json"])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"has a .json that is not valid JSON: {error}") from None
        found = [_caption(item) for item in (value if isinstance(value, list) else [value])]
    elif "txt" in texts:
        found = [texts["txt"].decode("utf-8", errors="replace")]
    else:
        raise ValueError("has neither a .json nor a .txt")
    captions = tuple(text.strip() for text in found if text and text.strip())
    if not captions:
        raise ValueError("has no caption")
    return captions


def _caption(item: object) -> str | None:
    found = item.get("caption") if isinstance(item, dict) else item
    return found if isinstance(found, str) else None


def _check_end(archive: tarfile.TarFile) -> None:
    """Python's reader takes a header that is cut or damaged for the end; a tar ends in zeros.

    Raises:
        tarfile.ReadError: this one does not.
    """
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError("it does not end as a tar does")


def _shuffled(items: Iterator[T], size: int, rng: Random) -> Iterator[T]:
    """`items` drawn by chance from the next `size` of them."""
    held = list(itertools.islice(items, size))
    for item in items:
        place = rng.randrange(len(held))
        held[place], item = item, held[place]
        yield item
    rng.shuffle(held)
    yield from held


def _decoded(data: bytes, where: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ArtifactError(f"{where}: {image.width}x{image.height} pixels are too many")
            return image.convert("RGB")
    except ArtifactError:
        raise
    except Exception as error:  # on damaged files Pillow's readers raise whatever comes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{where}: cannot be decoded as a picture ({reason})") from None

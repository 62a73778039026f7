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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, Self, TypeVar

from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.preprocess import MAX_PIXELS, as_rgb

__all__ = [
    "Damage",
    "DamagedShard",
    "Pair",
    "Sample",
    "Shards",
    "captions_in",
    "count_samples",
    "expand",
    "read_shard",
]

T = TypeVar("T")

_TEXTS = ("json", "txt")
_PICTURES = ("jpg", "jpeg", "png", "webp")
_NO_TAR = (tarfile.TarError, EOFError, OSError, zlib.error)


class Damage(ArtifactError):
    """A sample that cannot be read; `where` names it."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


class DamagedShard(Damage):
    """A tar that cannot be read, or not to its end."""


@dataclass(frozen=True)
class _Picture:
    """A picture of a shard."""

    shard: Path
    key: str
    data: bytes
    """The picture's file."""

    @property
    def where(self) -> str:
        """The shard's path and the key in it."""
        return f"{self.shard}/{self.key}"

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
    ending: str
    """Of the picture's file, without a dot: one of those that are read."""


@dataclass(frozen=True)
class Pair(_Picture):
    """A picture and one caption."""

    caption: str

    @property
    def number(self) -> int:
        """Of 63 bits: the same for a sample wherever its shard stands; others have others."""
        return _digits(f"{self.shard.name}/{self.key}")


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

    @classmethod
    def open(cls, names: Iterable[str | Path], **options: Any) -> Self:
        """Shards by their names, in which braces are expanded.

        Raises:
            ArtifactError: a shard is missing.
            UsageError: an option makes no sense.
        """
        return cls(paths=tuple(expand(names)), **options)

    def __post_init__(self) -> None:
        if not 1 <= self.parts <= len(self.paths):
            raise UsageError(f"{len(self.paths)} shards cannot be read in {self.parts} parts")
        if self.shuffle < 1:
            raise UsageError(f"shuffle must be at least 1, got {self.shuffle}")

    def pairs(self, epoch: int) -> Iterator[Pair | Damage]:
        """The pairs of an epoch; the same seed and epoch give the same ones in the same order."""
        found = (sample for path in self._order(epoch) for sample in read_shard(path))
        return self._drawn(found, epoch, f"{self.seed}/{epoch}")

    def share(
        self, epoch: int, counts: Mapping[Path, int], *, rank: int, world: int
    ) -> Iterator[Pair | Damage]:
        """The pairs of an epoch as process `rank` of `world` reads them, without end.

        All processes follow one order of all samples. Each begins where the share of the one
        before it ends, in the middle of a shard if need be; shares are equal but for one sample.
        Who wants more goes on into the next share. So any number of processes read any number of
        unequal shards, and none runs out before the others.

        Args:
            epoch: from 0 on.
            counts: of every shard, as `count_samples` finds them; one of them is not 0.
            rank: which process this is, from 0 on.
            world: how many there are.
        """
        order = self._order(epoch)
        total = sum(counts[path] for path in order)
        start, end = (total * place // world for place in (rank, rank + 1))
        endless = _from(order, counts, start)
        for number in itertools.count():
            # A share by itself: a share is read to its last sample before any is read again.
            some = itertools.islice(endless, max(1, end - start))
            yield from self._drawn(some, epoch, f"{self.seed}/{epoch}/{rank}/{number}")

    def digest(self) -> str:
        """One sha256 over the shards' names and sizes, and what decides their order."""
        digest = sha256(f"{self.seed}/{self.parts}/{self.shuffle}\n".encode())
        for path in self.paths:
            digest.update(f"{path.name}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _order(self, epoch: int) -> list[Path]:
        part = list(self.paths[epoch % self.parts :: self.parts])
        Random(f"{self.seed}/{epoch}").shuffle(part)
        return part

    def _drawn(
        self, found: Iterator[Sample | Damage], epoch: int, key: str
    ) -> Iterator[Pair | Damage]:
        pairs = (
            sample if isinstance(sample, Damage) else self._chosen(sample, epoch)
            for sample in found
        )
        return _shuffled(pairs, self.shuffle, Random(key))

    def _chosen(self, sample: Sample, epoch: int) -> Pair:
        """The pair that a sample is in this epoch, whichever samples stand before it."""
        number = _digits(f"{self.seed}/{epoch}/{sample.shard.name}/{sample.key}")
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


def _from(
    order: Sequence[Path], counts: Mapping[Path, int], start: int
) -> Iterator[Sample | Damage]:
    """Samples of all shards in turn without end, from number `start` on."""
    for path in itertools.cycle(order):
        if start and start >= counts[path]:
            start -= counts[path]
            continue
        yield from read_shard(path, skip=start)
        start = 0


def read_shard(path: Path, *, skip: int = 0, textless: bool = False) -> Iterator[Sample | Damage]:
    """The samples of one tar in their order, then what is wrong with the tar as a whole.

    The first `skip` samples are passed over, their pictures unread. A sample without a caption is
    damaged, unless `textless` ones are wanted too.
    """
    try:
        with tarfile.open(path, "r:*") as archive:
            keyed = itertools.groupby(_files(archive), key=lambda file: file[0])
            for key, files in itertools.islice(keyed, skip, None):
                own = [(member, ending) for _, member, ending in files]
                yield _sample(path, key, own, archive, textless)
            _check_end(archive)
    except _NO_TAR as error:
        reason = str(error) or type(error).__name__
        yield DamagedShard(str(path), f"{path} is damaged or truncated: {reason}")


def count_samples(path: Path) -> int:
    """How many things `read_shard` yields, of a damaged tar too, without reading pictures."""
    found, last = 0, None
    try:
        with tarfile.open(path, "r:*") as archive:
            for key, _, _ in _files(archive):
                found, last = found + (key != last), key
            try:
                _check_end(archive)
            except _NO_TAR:
                found += 1  # what is wrong comes after all samples
    except _NO_TAR:
        return max(found, 1)  # what is wrong comes in the place of the last sample
    return found


def captions_in(path: Path) -> Iterator[str]:
    """Every caption of a tar, its pictures unread; what is damaged is passed over."""
    with suppress(*_NO_TAR), tarfile.open(path, "r:*") as archive:
        for _, files in itertools.groupby(_files(archive), key=lambda file: file[0]):
            texts = {
                ending: _read(archive, member)
                for _, member, ending in files
                if ending in _TEXTS and _why_not(member) is None
            }
            with suppress(ValueError):
                yield from _captions(texts)


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo, str]]:
    """Key, member and ending of every file."""
    for member in archive:
        if not member.isdir():
            name = PurePosixPath(member.name)
            stem, _, ending = name.name.partition(".")
            yield (name.parent / stem).as_posix(), member, ending.lower()


def _sample(
    path: Path,
    key: str,
    files: Sequence[tuple[tarfile.TarInfo, str]],
    archive: tarfile.TarFile,
    textless: bool,
) -> Sample | Damage:
    def damage(what: str) -> Damage:
        return Damage(f"{path}/{key}", f"{path}: {what}")

    data, kind = None, ""
    texts: dict[str, bytes] = {}
    for member, ending in files:
        if why := _why_not(member):
            return damage(f"the member {member.name!r} {why}; it is not followed")
        if ending in _PICTURES:
            data, kind = _read(archive, member), ending
        elif ending in _TEXTS:
            texts[ending] = _read(archive, member)
    if data is None:
        return damage(f"{key} has no picture ({', '.join(_PICTURES)})")
    try:
        return Sample(path, key, data, _captions(texts, textless=textless), kind)
    except ValueError as error:  # JSON's and Unicode's errors too
        return damage(f"{key} {error}")


def _why_not(member: tarfile.TarInfo) -> str | None:
    """Why a member is not read."""
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        return "leaves the folder"
    return None if member.isfile() else "is a link"


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # it is a file
    return file.read()


def _captions(texts: dict[str, bytes], *, textless: bool = False) -> tuple[str, ...]:
    """The captions of a sample.

    Raises:
        ValueError: it has none, though it is not `textless`; the words go on after "the sample".
    """
    if "json" in texts:
        try:
            value = json.loads(texts["json"])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"has a .json that is not valid JSON: {error}") from None
        found = [_caption(item) for item in (value if isinstance(value, list) else [value])]
    elif "txt" in texts:
        found = [texts["txt"].decode("utf-8", errors="replace")]
    elif textless:
        found = []
    else:
        raise ValueError("has neither a .json nor a .txt")
    captions = tuple(text.strip() for text in found if text and text.strip())
    if not captions and not textless:
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


def _digits(text: str) -> int:
    """63 bits that are the text's own."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


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
            return as_rgb(image, where)
    except ArtifactError:
        raise
    except Exception as error:  # on damaged files Pillow's readers raise whatever comes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{where}: cannot be decoded as a picture ({reason})") from None

"""Some frames of a clip: of a video through PyAV, of an animated picture through Pillow.

    for image in frames("videos/video7010.mp4", 8):
        ...

BLIP looks at 8 frames of a clip to retrieve it and at 16 to answer questions about it.
"""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.errors import ArtifactError, BlipEdgeError, UsageError, import_extra
from blip_edge.preprocess import MAX_PIXELS

__all__ = ["ANIMATED", "Sampling", "frames", "positions"]

Sampling = Literal["uniform", "legacy", "random", "headtail"]

_Choose = Callable[[int], NDArray[np.int64]]

ANIMATED = (".gif", ".webp", ".png")
"""Endings of animated pictures; everything else is a video."""


def frames(
    path: Path | str, number: int = 8, *, sampling: Sampling = "uniform", seed: int = 0
) -> list[Image.Image]:
    """`number` frames of the clip in `path`, in their order, as RGB.

    A clip with fewer frames gives some of them more than once.

    Raises:
        ArtifactError: the clip is missing or cannot be decoded.
        MissingExtraError: it is a video, and PyAV is not installed.
        UsageError: `number` is below 1, or `sampling` is unknown.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such clip")
    # What is drawn depends on the clip, so that not all clips are cut at the same places.
    own = int.from_bytes(sha256(f"{seed}/{path.stem}".encode()).digest()[:8], "big")
    choose = partial(positions, number=number, sampling=sampling, seed=own)
    read = _animation if path.suffix.lower() in ANIMATED else _video
    try:
        return read(path, choose)
    except BlipEdgeError:
        raise
    except Exception as error:  # on damaged files Pillow and PyAV raise whatever comes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path}: cannot be decoded as a clip ({reason})") from None


def positions(
    length: int, number: int, *, sampling: Sampling = "uniform", seed: int = 0
) -> NDArray[np.int64]:
    """Which of `length` frames to take: `number` of them, in rising order.

    * uniform: evenly spaced from the first frame to the last; a single one is the middle's.
    * legacy: BLIP's, whose step is cut to a whole number, so that the tail of a clip is not seen,
      and of a clip with fewer frames than `number` only the first frame is.
    * random: drawn by chance.
    * headtail: half of them drawn from each half of the clip.

    Raises:
        UsageError: `number` or `length` is below 1, or `sampling` is unknown.
    """
    if length < 1 or number < 1:
        raise UsageError(f"{number} frames cannot be taken of {length}")
    rng = np.random.default_rng(seed)
    match sampling:
        case "uniform":
            if number == 1:
                return np.array([length // 2], dtype=np.int64)
            return np.rint(np.linspace(0, length - 1, number)).astype(np.int64)
        case "legacy":
            return np.arange(number, dtype=np.int64) * (length // number)
        case "random":
            return _drawn(rng, 0, length, number)
        case "headtail":
            half = max(1, length // 2)
            head = _drawn(rng, 0, half, number // 2)
            tail = _drawn(rng, min(half, length - 1), length, number - number // 2)
            return np.concatenate([head, tail])
    raise UsageError(f"there is no sampling {sampling!r}: uniform, legacy, random or headtail")


def _drawn(rng: np.random.Generator, start: int, end: int, number: int) -> NDArray[np.int64]:
    again = number > end - start
    return np.sort(start + rng.choice(end - start, size=number, replace=again)).astype(np.int64)


def _animation(path: Path, choose: _Choose) -> list[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of transparent palettes
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            _bounded(path, image.width, image.height)
            wanted = choose(getattr(image, "n_frames", 1)).tolist()
            found: dict[int, Image.Image] = {}
            for place in sorted(set(wanted)):
                image.seek(place)
                found[place] = image.convert("RGB")
    return [found[place] for place in wanted]


def _video(path: Path, choose: _Choose) -> list[Image.Image]:
    av = import_extra("av", "video")
    with av.open(str(path)) as container:
        # The number in a file's header can be missing or wrong; packets are counted undecoded.
        length = sum(packet.size > 0 for packet in container.demux(_stream(path, container)))
    for _ in range(2):
        if length == 0:
            break
        wanted = choose(length).tolist()
        with av.open(str(path)) as container:
            found, decoded = _decoded(container.decode(_stream(path, container)), set(wanted))
        if set(wanted) <= set(found):
            return [found[place] for place in wanted]
        length = decoded  # fewer frames come out than packets go in
    raise ArtifactError(f"{path}: there are no frames in the clip, or not the same ones each time")


def _decoded(stream: Iterable[Any], wanted: set[int]) -> tuple[dict[int, Image.Image], int]:
    """The wanted frames by their places, and how many frames were decoded to have them."""
    found: dict[int, Image.Image] = {}
    decoded = 0
    for place, frame in enumerate(stream):
        decoded = place + 1
        if place in wanted:
            found[place] = frame.to_image().convert("RGB")
        if len(found) == len(wanted):
            break
    return found, decoded


def _stream(path: Path, container: Any) -> Any:
    """The first stream of pictures."""
    if not container.streams.video:
        raise ArtifactError(f"{path}: there is no picture in the clip, only sound")
    stream = container.streams.video[0]
    _bounded(path, stream.width, stream.height)
    return stream


def _bounded(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ArtifactError(f"{path}: {width}x{height} pixels are too many")

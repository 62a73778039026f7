"""A picture out of a package: drawn if it is a drawing, cropped, put on white, made to size."""

import io
import re
import subprocess
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Literal

from PIL import Image, ImageStat

from blip_edge.data.draft import Unavailable
from blip_edge.data.picturebook.packages import program
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import MAX_PIXELS

__all__ = ["draw", "family", "looks_photographic", "on_white", "renderer", "split_of"]

Split = Literal["train", "val", "test"]

_SECONDS = 60  # far more than any drawing takes
_FAINT = 8  # of 255: what is less opaque is margin
_FLAT = 2  # standard deviation of grey below which nothing is to be seen
_SOLID = 250  # of 255: what is less opaque is an edge, whose colours say nothing


def renderer() -> str:
    """The program that draws SVG.

    Raises:
        MissingExtraError: it is not installed.
    """
    return program("rsvg-convert", "install Debian's librsvg2-bin (apt-get install librsvg2-bin)")


def draw(path: Path, size: int) -> Image.Image:
    """The picture in `path` as RGBA; a drawing with its longest side twice `size`.

    Raises:
        ArtifactError: it cannot be decoded or drawn.
        MissingExtraError: it is an SVG, and the program that draws them is not installed.
    """
    try:
        source = io.BytesIO(_svg(path, 2 * size)) if path.suffix == ".svg" else path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of transparent palettes
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ArtifactError(f"{path}: {image.width}x{image.height} are too many pixels")
                return image.convert("RGBA")
    except (ArtifactError, Image.DecompressionBombError) as error:
        raise ArtifactError(str(error)) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ArtifactError(f"{path}: cannot be decoded as a picture ({error})") from None


def _svg(path: Path, size: int) -> bytes:
    command = [renderer(), "--keep-aspect-ratio", "-w", str(size), "-h", str(size)]
    try:
        done = subprocess.run(
            [*command, str(path)], capture_output=True, check=True, timeout=_SECONDS
        )
    except subprocess.SubprocessError as error:
        raise ArtifactError(f"{path}: cannot be drawn ({error})") from None
    return done.stdout


def on_white(image: Image.Image, size: int) -> Image.Image:
    """`image` without its empty margin, on white, its longest side `size` pixels.

    Raises:
        Unavailable: there is nothing to be seen on it.
    """
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > _FAINT)).getbbox()
    if box is None:
        raise Unavailable("the picture is transparent all over")
    image = image.crop(box)
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    scale = size / max(image.size)
    sides = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    made = white.convert("RGB").resize(sides, Image.Resampling.LANCZOS)
    if max(ImageStat.Stat(made.convert("L")).stddev) < _FLAT:
        raise Unavailable("the picture is blank")
    return made


def looks_photographic(image: Image.Image) -> bool:
    """Whether an RGBA picture has many colours and no flat area.

    A rule that fits what the eye says of the stamps; drawings with soft shading can pass it.
    """
    image = image.crop(image.getchannel("A").getbbox())
    scale = min(1.0, 400 / max(image.size))
    sides = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    image = image.resize(sides, Image.Resampling.NEAREST)
    # Pairs of how many pixels have a colour, and the colour.
    colours = image.getcolors(image.width * image.height) or []
    counts = [
        count for count, colour in colours if isinstance(colour, tuple) and colour[3] > _SOLID
    ]
    total = sum(counts)
    return total > 0 and len(counts) > 0.4 * total and max(counts) < 0.05 * total


def family(folder: str, name: str) -> str:
    """What numbered variants of one thing share, so that they share a split: `animals/cat`.

    Variants are lettered too, so that "tuba" loses its end; that only makes a family larger.
    """
    name = name.lower()
    return f"{folder}/{re.sub(r'([_-]?([0-9]+|[a-c]))+$', '', name) or name}"


def split_of(key: str) -> Split:
    """80, 10 and 10 in a hundred, by a hash of the name: the same for ever."""
    bucket = int.from_bytes(sha256(key.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 80 else "val" if bucket < 90 else "test"

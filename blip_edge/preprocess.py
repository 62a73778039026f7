"""A picture to pixels, exactly as BLIP was trained to see them, with Pillow and numpy alone.

RGB, squashed to a square whatever its shape (BLIP's evaluation transform does not crop), bicubic,
divided by 255, normalised with CLIP's mean and deviation. A clip's frames are pictures.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from blip_edge.errors import ArtifactError, UsageError

__all__ = ["MAX_PIXELS", "Clip", "Preprocess", "as_rgb", "open_image"]

# Twice Pillow's own warning threshold: beyond it a small file can claim any amount of memory.
MAX_PIXELS = 178_956_970

# What a processor of Hugging Face's may leave out or add, and BLIP's does or does not.
_STEPS = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "do_center_crop": False,
}


def open_image(path: Path | str) -> Image.Image:
    """The picture in `path`, decoded, as RGB.

    Raises:
        ArtifactError: the file is missing, cannot be decoded, has more than 178 megapixels, or is
            none that `as_rgb` takes.
    """
    try:
        with warnings.catch_warnings():
            # Of sizes, which are checked below, and of transparent palettes and broken EXIF.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ArtifactError(f"{path}: {image.width}x{image.height} pixels are too many")
                return as_rgb(image, path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no such picture") from None
    except Image.DecompressionBombError:
        raise ArtifactError(f"{path}: over {MAX_PIXELS:,} pixels are too many") from None
    except ArtifactError:
        raise
    except Exception as error:  # on damaged files Pillow's readers raise whatever comes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path}: cannot be decoded as a picture ({reason})") from None


def as_rgb(image: Image.Image, name: Path | str) -> Image.Image:
    """`image` as RGB, upright; grey of 16 bits is brought to 8, where Pillow would cut it off.

    A phone stores how it was held beside the pixels (EXIF), and browsers and `transformers` turn
    the picture by that, as is done here; BLIP's own program does not.

    Raises:
        ArtifactError: numbers of 32 bits, whose black and white nothing tells; `name` is whose.
    """
    if image.mode in ("I", "F"):
        raise ArtifactError(f"{name}: 32 bits a pixel (mode {image.mode}); save it with 8 or 16")
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


@dataclass(frozen=True)
class Clip:
    """Frames of one clip, in their order: what is looked at as one thing, not as many pictures.

        Clip(tuple(frames("videos/video7010.mp4", 8)))      # `blip_edge.data.video.frames`

    Raises:
        UsageError: there are none.
    """

    frames: tuple[Path | str | Image.Image, ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise UsageError("a clip needs at least one frame")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """BLIP's evaluation transform for square pictures of `size` pixels."""

    size: int
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def to_uint8(self, image: Path | str | Image.Image) -> NDArray[np.uint8]:
        """One picture as (S, S, 3) bytes.

        Raises:
            ArtifactError: see `open_image`.
        """
        if isinstance(image, Image.Image):
            picture = as_rgb(image, "a picture in memory")
        else:
            picture = open_image(image)
        square = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(square, dtype=np.uint8)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) bytes to (B, 3, S, S) float32."""
        mean = np.asarray(self.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None, None]
        # Bytes are moved, not floats, and one array is worked on in place: a sixth of the time.
        scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
        scaled /= np.float32(255)
        scaled -= mean
        scaled /= std
        return scaled

    def __call__(self, images: Sequence[Path | str | Image.Image]) -> NDArray[np.float32]:
        """Pictures to (B, 3, S, S) float32."""
        return self.normalise(np.stack([self.to_uint8(image) for image in images]))

    def clips(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """Clips of F frames each to (B, F, 3, S, S) float32: every frame as a picture would be."""
        frames = self([frame for clip in clips for frame in clip.frames])
        return frames.reshape(len(clips), -1, *frames.shape[1:])

    def to_json(self) -> dict[str, Any]:
        """The same in the words of Hugging Face's preprocessor_config.json."""
        return {
            "image_processor_type": "BlipImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"height": self.size, "width": self.size},
            "resample": int(Image.Resampling.BICUBIC),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    @classmethod
    def from_json(cls, config: dict[str, Any], *, source: Path | str) -> "Preprocess":
        """Read preprocessor_config.json's words; `source` is named in errors.

        Raises:
            ArtifactError: a field is missing, or asks for another transform than BLIP's.
        """
        try:
            size = config["size"]
            height, width = (
                (size, size) if isinstance(size, int) else (size["height"], size["width"])
            )
            mean, std = tuple(config["image_mean"]), tuple(config["image_std"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{source} is not a BLIP image processor: no {error}") from None
        if not isinstance(height, int) or height < 1:
            raise ArtifactError(f"{source}: pictures of {height!r} pixels; that is no size")
        if height != width:
            raise ArtifactError(f"{source}: BLIP takes square pictures, not {height}x{width}")
        if config.get("resample", 3) != Image.Resampling.BICUBIC:
            raise ArtifactError(f"{source}: resample {config['resample']} is not bicubic (3)")
        for key, fixed in _STEPS.items():
            if config.get(key, fixed) is not fixed:
                raise ArtifactError(f"{source}: BLIP takes {key} {fixed}, not {config[key]}")
        scale = config.get("rescale_factor", 1 / 255)
        if not isinstance(scale, float) or abs(scale - 1 / 255) > 1e-6:
            raise ArtifactError(f"{source}: rescale_factor {scale}, not 1/255")
        if len(mean) != 3 or len(std) != 3:
            raise ArtifactError(f"{source}: image_mean and image_std need three channels each")
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in (*mean, *std)):
            raise ArtifactError(f"{source}: image_mean and image_std are not numbers")
        if not all(std):
            raise ArtifactError(f"{source}: image_std is 0 in a channel")
        return cls(size=height, mean=mean, std=std)

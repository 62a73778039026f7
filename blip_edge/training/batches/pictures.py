"""A data set's pictures as squares of bytes, kept in memory while there is room."""

# S image side · H, W a picture's own height and width

import warnings
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.data.dataset import Dataset
from blip_edge.data.shards import Pair
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import Preprocess, open_image
from blip_edge.training.augment import Augmentation, apply_change, draw_change

__all__ = ["Damaged", "Pictures", "hush"]

# Decoded pictures are kept up to here; beyond it they are read again in every epoch.
_CACHE_BYTES = 1 << 30


class Damaged(NamedTuple):
    """A picture that cannot be read."""

    image: str
    why: str


class Pictures:
    """What is read is kept up to `limit` bytes; several threads may read at once.

    Without an augmentation the square (S, S, 3) is what is kept. With one it is the whole picture
    (H, W, 3), because every crop is another. Without `data` only `decode` may be asked.
    """

    def __init__(
        self,
        data: Dataset | None,
        preprocess: Preprocess,
        augmentation: Augmentation | None = None,
        *,
        limit: int = _CACHE_BYTES,
    ) -> None:
        self._data, self._preprocess, self._augmentation = data, preprocess, augmentation
        self._kept: dict[str, NDArray[np.uint8]] = {}
        self._damaged: dict[str, Damaged] = {}
        self._free, self._lock = limit, Lock()

    def read(self, image: str, rng: np.random.Generator) -> NDArray[np.uint8] | Damaged:
        """(S, S, 3) bytes of a picture, augmented with what `rng` draws.

        Raises:
            ArtifactError: `image` leads out of the data set.
        """
        if image in self._damaged:
            return self._damaged[image]
        pixels = self._kept.get(image)
        if pixels is None:
            assert self._data is not None  # rows of a data set only
            path = self._data.image_path(image)
            try:
                if self._augmentation is None:
                    pixels = self._preprocess.to_uint8(path)
                else:
                    pixels = np.asarray(open_image(path))
            except ArtifactError as error:
                return self._damaged.setdefault(image, Damaged(image, str(error)))
            self._keep(image, pixels)
        if self._augmentation is None:
            return pixels
        return self._changed(Image.fromarray(pixels), rng)

    def decode(self, pair: Pair, rng: np.random.Generator) -> NDArray[np.uint8] | Damaged:
        """(S, S, 3) bytes of a shard's picture; it is not kept."""
        try:
            image = pair.image()
        except ArtifactError as error:
            return Damaged(pair.where, str(error))
        if self._augmentation is None:
            return self._preprocess.to_uint8(image)
        return self._changed(image, rng)

    def _keep(self, image: str, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if pixels.nbytes <= self._free and image not in self._kept:
                self._kept[image] = pixels
                self._free -= pixels.nbytes

    def _changed(self, image: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
        assert self._augmentation is not None
        change = draw_change(self._augmentation, image.width, image.height, rng)
        changed = apply_change(image, change, self._preprocess.size)
        return np.asarray(changed, dtype=np.uint8)


class _Hush:
    """Pillow's warnings are off while any thread is inside.

    `open_image` turns them off by itself, but in threads that overlap the filters that one puts
    back are those of another, and a picture may end in a warning that was to be ignored.
    """

    def __init__(self) -> None:
        self._inside, self._lock = 0, Lock()
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


hush = _Hush()

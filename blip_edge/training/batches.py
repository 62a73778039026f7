"""Rows of a data set as batches of tensors: pixels, ids and which rows belong together.

Pictures that cannot be decoded are skipped and counted; too many of them stop the run.
"""

# B rows · T text tokens · S image side · F frames of a clip · A answers · R texts of dialogs

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import Preprocess
from blip_edge.progress import Progress
from blip_edge.text import Tokenizer, clean_caption

__all__ = [
    "Batch",
    "CaptionBatches",
    "DialogBatch",
    "Nlvr2Batch",
    "Step",
    "VqaBatch",
    "started",
]

# Decoded pictures are kept up to here; beyond it they are read again in every epoch.
_CACHE_BYTES = 1 << 30


def started(input_ids: Tensor, token: int) -> Tensor:
    """(B, T) ids with `token` at position 0, where the encoder and the decoder want their own."""
    ids = input_ids.clone()
    ids[:, 0] = token
    return ids


@dataclass(frozen=True)
class Step:
    """One step's input: tensors that stay together."""

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return type(self)(**moved)


@dataclass(frozen=True)
class Batch(Step):
    """Pictures and a text of each."""

    pixel_values: Tensor
    """(B, 3, S, S) float32."""
    input_ids: Tensor
    """(B, T) int64, starting with [CLS], padded on the right."""
    attention_mask: Tensor
    """(B, T) ones for words."""
    picture: Tensor
    """(B,) numbers of the pictures in the data set, equal for rows of one picture."""

    def first(self, token: int) -> Tensor:
        """The ids with `token` at position 0, as the encoder and the decoder want them."""
        return started(self.input_ids, token)


@dataclass(frozen=True)
class VqaBatch(Step):
    """Questions about pictures, and the different answers that people gave to each."""

    pixel_values: Tensor
    """(B, 3, S, S) float32, or clips (B, F, 3, S, S)."""
    input_ids: Tensor
    """(B, T) int64 questions, starting with [CLS], padded on the right."""
    attention_mask: Tensor
    """(B, T) ones for words."""
    answer_ids: Tensor
    """(A, T) int64 answers, starting with [CLS], padded on the right."""
    answer_mask: Tensor
    """(A, T) ones for words."""
    question: Tensor
    """(A,) int64: which of the B questions each answers."""
    weights: Tensor
    """(A,) float32: the share of people who answered so; 0.2 for an answer of Visual Genome's."""


@dataclass(frozen=True)
class Nlvr2Batch(Step):
    """Sentences about two pictures."""

    left: Tensor
    """(B, 3, S, S) float32."""
    right: Tensor
    """(B, 3, S, S) float32."""
    input_ids: Tensor
    """(B, T) int64 sentences, starting with [CLS], padded on the right."""
    attention_mask: Tensor
    """(B, T) ones for words."""
    labels: Tensor
    """(B,) int64, 1 where the sentence is true."""


@dataclass(frozen=True)
class DialogBatch(Step):
    """Captioned pictures, and equally many texts of a dialog about each: R = B x texts."""

    pixel_values: Tensor
    """(B, 3, S, S) float32."""
    caption_ids: Tensor
    """(B, T) int64, starting with [CLS], padded on the right."""
    caption_mask: Tensor
    """(B, T) ones for words."""
    input_ids: Tensor
    """(R, T) int64 history, question and answer, starting with [CLS]; a picture's are adjacent."""
    attention_mask: Tensor
    """(R, T) ones for words."""
    labels: Tensor
    """(R,) int64, 1 where the answer is the true one."""


class CaptionBatches:
    """Shuffled batches of (picture, caption) rows, epoch after epoch, without end.

    The order depends on `seed` alone. The last rows of an epoch that fill no batch are left out,
    unless the data set is smaller than one batch.
    """

    def __init__(
        self,
        data: Dataset,
        rows: Sequence[CaptionRow],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        batch: int,
        seed: int,
        prompt: str = "",
        max_words: int = 30,
        max_length: int = 40,
        max_bad: float = 0.01,
    ) -> None:
        if not rows:
            raise ArtifactError(f"{data.folder} has no captions to train on")
        self._data, self._rows, self._tokenizer = data, rows, tokenizer
        self._preprocess, self._max_bad = preprocess, max_bad
        self._batch, self._seed, self._max_length = min(batch, len(rows)), seed, max_length
        # A prompt may be written without the space at its end.
        start = f"{prompt.strip()} " if prompt.strip() else ""
        self._texts = [start + clean_caption(row.captions[0], max_words) for row in rows]
        self._numbers = {name: i for i, name in enumerate(dict.fromkeys(r.image for r in rows))}
        self._pixels: dict[str, NDArray[np.uint8]] = {}
        self.skipped: dict[str, str] = {}
        """Pictures that could not be decoded, and why."""

    def report(self, folder: Path, progress: Progress) -> None:
        """List the skipped pictures in `skipped.jsonl`, if there are any, and say how many."""
        if not self.skipped:
            return
        rows = [{"image": image, "reason": why} for image, why in self.skipped.items()]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "skipped.jsonl").write_text(lines, encoding="utf-8")
        progress.say(f"warning: {len(rows)} pictures could not be read; see skipped.jsonl")

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the rows."""
        return len(self._rows) // self._batch

    def __iter__(self) -> Iterator[Batch]:
        generator = np.random.default_rng(self._seed)
        while True:
            order = generator.permutation(len(self._rows))
            if len(self.skipped) == len(self._numbers):
                raise ArtifactError(f"{self._data.folder}: none of the pictures can be read")
            for first in range(0, self.per_epoch * self._batch, self._batch):
                batch = self._collate(order[first : first + self._batch])
                if batch is not None:
                    yield batch

    def _collate(self, numbers: NDArray[np.int64]) -> Batch | None:
        read = [(n, self._read(self._rows[n].image)) for n in numbers]
        kept = [(n, pixels) for n, pixels in read if pixels is not None]
        if not kept:
            return None
        texts = [self._texts[n] for n, _ in kept]
        ids, mask = self._tokenizer.encode(texts, max_length=self._max_length)
        pixels = self._preprocess.normalise(np.stack([pixels for _, pixels in kept]))
        return Batch(
            pixel_values=torch.from_numpy(pixels),
            input_ids=torch.from_numpy(ids).long(),
            attention_mask=torch.from_numpy(mask).long(),
            picture=torch.tensor([self._numbers[self._rows[n].image] for n, _ in kept]),
        )

    def _read(self, image: str) -> NDArray[np.uint8] | None:
        if image in self.skipped:
            return None
        if image in self._pixels:
            return self._pixels[image]
        path: Path = self._data.image_path(image)
        try:
            pixels = self._preprocess.to_uint8(path)
        except ArtifactError as error:
            self._skip(image, str(error))
            return None
        if (len(self._pixels) + 1) * pixels.nbytes <= _CACHE_BYTES:
            self._pixels[image] = pixels
        return pixels

    def _skip(self, image: str, why: str) -> None:
        self.skipped[image] = why
        if len(self.skipped) > self._max_bad * len(self._numbers):
            raise ArtifactError(
                f"{len(self.skipped)} of {len(self._numbers)} pictures cannot be read, more than "
                f"max_bad = {self._max_bad:g} allows; the last one: {why}"
            )

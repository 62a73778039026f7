"""What one step of each task takes: tensors that stay together."""

# B rows · T text tokens · S image side · F frames of a clip · A answers · R texts of dialogs

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

__all__ = ["Batch", "DialogBatch", "Nlvr2Batch", "Step", "VqaBatch", "started"]


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

    @property
    def rows(self) -> int:
        """How many rows of the data set it is of: as many as its first tensor has."""
        return len(getattr(self, fields(self)[0].name))


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

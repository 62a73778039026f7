"""Sentences that are true or false of two pictures."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import SentenceRow
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer, clean_caption, exchange_sides
from blip_edge.training.batches.rows import Example, Feeding, RowBatches
from blip_edge.training.batches.skipping import LeftOut
from blip_edge.training.batches.step import Nlvr2Batch

__all__ = ["Nlvr2Batches"]


class _Judged(NamedTuple):
    images: tuple[str, str]
    sentence: str
    label: bool


class Nlvr2Batches(RowBatches[_Judged, Nlvr2Batch]):
    """Batches of sentences, each with its left and its right picture.

    A sentence without words is left out and listed, and so is one of whose pictures one cannot be
    read.

    Args:
        data: where the pictures are.
        rows: labelled sentences.
        tokenizer: the model's.
        preprocess: the model's.
        swap: how often the pictures change places, and the words left and right with them; BLIP
            trains with 0.5.
        max_words: words of a sentence that are kept.
        max_length: tokens that are kept; no more than the model can hold.
        feeding: see `Feeding`.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset,
        rows: Sequence[SentenceRow],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        swap: float = 0.0,
        max_words: int = 40,
        max_length: int = 512,
        **feeding: Unpack[Feeding],
    ) -> None:
        self._swap, self._max_length = swap, max_length
        items = [_item(row, max_words) for row in rows]
        super().__init__(data, items, "sentences", tokenizer, preprocess, feeding)

    def _images(self, item: _Judged) -> tuple[str, ...]:
        return item.images

    def _collate(self, examples: list[Example[_Judged]]) -> Nlvr2Batch:
        sentences, pairs = [], []
        for item, pixels, rng in examples:
            swapped = rng.random() < self._swap
            sentences.append(exchange_sides(item.sentence) if swapped else item.sentence)
            pairs.append(pixels[::-1] if swapped else pixels)
        ids, mask = self._encoded(sentences, self._max_length)
        return Nlvr2Batch(
            left=self._normalised([left for left, _ in pairs]),
            right=self._normalised([right for _, right in pairs]),
            input_ids=ids,
            attention_mask=mask,
            labels=torch.tensor([int(row.item.label) for row in examples]),
        )


def _item(row: SentenceRow, max_words: int) -> _Judged | LeftOut:
    sentence = clean_caption(row.sentence, max_words)
    if not sentence:
        return LeftOut(row.images[0], f"its sentence {row.sentence!r:.40} has no words")
    return _Judged(row.images, sentence, row.label)

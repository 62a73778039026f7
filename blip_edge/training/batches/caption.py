"""Pictures with a caption of each: for captioning, pre-training and retrieval."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer, clean_caption
from blip_edge.training.batches.rows import Example, Feeding, RowBatches
from blip_edge.training.batches.skipping import LeftOut
from blip_edge.training.batches.step import Batch

__all__ = ["CaptionBatches"]


class _Captioned(NamedTuple):
    image: str
    text: str


class CaptionBatches(RowBatches[_Captioned, Batch]):
    """Batches of (picture, caption) rows.

    A caption that is empty once it is cleaned is learned as its prompt alone, and then its end.
    Without a prompt nothing would be left of it: the row is left out and listed.

    Args:
        data: where the pictures are.
        rows: the first caption of each is taken.
        tokenizer: the model's.
        preprocess: the model's.
        prompt: words that every caption starts from.
        max_words: words of a caption that are kept.
        max_length: tokens that are kept, the prompt's included.
        feeding: see `Feeding`.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset,
        rows: Sequence[CaptionRow],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        prompt: str = "",
        max_words: int = 30,
        max_length: int = 40,
        **feeding: Unpack[Feeding],
    ) -> None:
        self._max_length = max_length
        # A prompt may be written without the space at its end.
        start = f"{prompt.strip()} " if prompt.strip() else ""
        items = [_item(row, start, max_words) for row in rows]
        super().__init__(data, items, "captions", tokenizer, preprocess, feeding)

    def _images(self, item: _Captioned) -> tuple[str, ...]:
        return (item.image,)

    def _collate(self, examples: list[Example[_Captioned]]) -> Batch:
        ids, mask = self._encoded([row.item.text for row in examples], self._max_length)
        return Batch(
            pixel_values=self._normalised([row.pixels[0] for row in examples]),
            input_ids=ids,
            attention_mask=mask,
            picture=torch.tensor([self._numbers[row.item.image] for row in examples]),
        )


def _item(row: CaptionRow, start: str, max_words: int) -> _Captioned | LeftOut:
    caption = row.captions[0] if row.captions else ""
    text = start + clean_caption(caption, max_words)
    if not text:
        return LeftOut(row.image, f"its caption {caption!r:.40} has no words")
    return _Captioned(row.image, text)

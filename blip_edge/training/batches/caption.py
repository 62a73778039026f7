"""Pictures with a caption of each: for captioning, pre-training and retrieval."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.data.shards import Pair
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer, clean_caption
from blip_edge.training.batches.rows import Example, Feeding, RowBatches
from blip_edge.training.batches.skipping import LeftOut
from blip_edge.training.batches.step import Batch
from blip_edge.training.batches.stream import Stream, Web

__all__ = ["CaptionBatches"]


class _Captioned(NamedTuple):
    image: str
    text: str
    number: int
    """Of the picture."""


class CaptionBatches(RowBatches[_Captioned, Batch]):
    """Batches of (picture, caption) rows.

    A row whose caption is empty once it is cleaned is left out and listed: of a prompt alone only
    silence could be learned.

    Args:
        data: where the pictures of `rows` are; None if there are none.
        rows: a picture with several captions counts as a row for each.
        tokenizer: the model's.
        preprocess: the model's.
        prompt: words that every caption starts from.
        max_words: words of a caption that are kept.
        max_length: tokens that are kept, the prompt's included.
        web: shards with more pairs.
        feeding: see `Feeding`.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset | None,
        rows: Sequence[CaptionRow],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        prompt: str = "",
        max_words: int = 30,
        max_length: int = 40,
        web: Web | None = None,
        **feeding: Unpack[Feeding],
    ) -> None:
        self._max_length, self._max_words = max_length, max_words
        # A prompt may be written without the space at its end.
        self._start = f"{prompt.strip()} " if prompt.strip() else ""
        numbers: dict[str, int] = {}
        items = [
            self._item(row.image, text, numbers.setdefault(row.image, len(numbers)))
            for row in rows
            for text in row.captions or ("",)
        ]
        stream = None if web is None else Stream(web, self._of_pair)
        super().__init__(data, items, "captions", tokenizer, preprocess, feeding, stream)

    def _of_pair(self, pair: Pair) -> _Captioned | LeftOut:
        return self._item(pair.where, pair.caption, pair.number)

    def _item(self, image: str, caption: str, number: int) -> _Captioned | LeftOut:
        words = clean_caption(caption, self._max_words)
        if not words:
            return LeftOut(image, f"its caption {caption!r:.40} has no words")
        return _Captioned(image, self._start + words, number)

    def _images(self, item: _Captioned) -> tuple[str, ...]:
        return (item.image,)

    def _collate(self, examples: list[Example[_Captioned]]) -> Batch:
        ids, mask = self._encoded([row.item.text for row in examples], self._max_length)
        return Batch(
            pixel_values=self._normalised([row.pixels[0] for row in examples]),
            input_ids=ids,
            attention_mask=mask,
            picture=torch.tensor([row.item.number for row in examples]),
        )

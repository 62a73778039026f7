"""Dialogs about captioned pictures: the answer that was given, among others that were not."""

# B questions · K answers of each · R = B · K texts

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import numpy as np
import torch

from blip_edge.data.dataset import Dataset
from blip_edge.data.dialog_texts import dialog_texts
from blip_edge.data.rows import Dialog
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer, clean_caption, clean_question
from blip_edge.training.batches.rows import Example, Feeding, RowBatches
from blip_edge.training.batches.skipping import LeftOut
from blip_edge.training.batches.step import DialogBatch

__all__ = ["DialogBatches"]

_CAPTION_WORDS, _CAPTION_TOKENS = 40, 40


class _Turn(NamedTuple):
    """A question of a dialog. Options are not copied: a million questions have a hundred each."""

    dialog: Dialog
    caption: str
    number: int


class DialogBatches(RowBatches[_Turn, DialogBatch]):
    """Batches of questions, each with its true answer and `negatives` of the other options.

    The true answer comes first. Where there are fewer other options than `negatives`, some come
    more than once. A question without words, or without another option, is left out and listed; a
    caption without words is none.

    Args:
        data: where the pictures are.
        rows: dialogs.
        tokenizer: the model's.
        preprocess: the model's.
        negatives: wrong answers of a question.
        max_length: tokens of a history, a question and an answer; the oldest rounds go first.
        feeding: see `Feeding`.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset,
        rows: Sequence[Dialog],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        negatives: int = 1,
        max_length: int = 256,
        **feeding: Unpack[Feeding],
    ) -> None:
        self._negatives, self._max_length = negatives, max_length
        items = [item for dialog in rows for item in _items(dialog)]
        super().__init__(data, items, "dialogs", tokenizer, preprocess, feeding)

    def _images(self, item: _Turn) -> tuple[str, ...]:
        return (item.dialog.image,)

    def _collate(self, examples: list[Example[_Turn]]) -> DialogBatch:
        texts = [text for item, _, rng in examples for text in self._texts(item, rng)]
        ids, mask = self._encoded(texts, self._max_length)
        captions, words = self._encoded([row.item.caption for row in examples], _CAPTION_TOKENS)
        labels = torch.zeros(len(examples), 1 + self._negatives, dtype=torch.long)
        labels[:, 0] = 1
        return DialogBatch(
            pixel_values=self._normalised([row.pixels[0] for row in examples]),
            caption_ids=captions,
            caption_mask=words,
            input_ids=ids,
            attention_mask=mask,
            labels=labels.flatten(),
        )

    def _texts(self, item: _Turn, rng: np.random.Generator) -> list[str]:
        turn = item.dialog.rounds[item.number]
        true = turn.options[turn.gt]
        wrong = [option for option in dict.fromkeys(turn.options) if option != true]
        chosen = rng.choice(len(wrong), self._negatives, replace=len(wrong) < self._negatives)
        answers = [true, *(wrong[number] for number in chosen)]
        return dialog_texts(item.dialog, item.number, answers, self._tokenizer, self._max_length)


def _items(dialog: Dialog) -> list[_Turn | LeftOut]:
    caption = clean_caption(dialog.caption, _CAPTION_WORDS)
    items: list[_Turn | LeftOut] = []
    for number, turn in enumerate(dialog.rounds):
        if not clean_question(turn.question).strip(" ?"):
            why = f"its question {turn.question!r:.40} has no words"
        elif all(option == turn.options[turn.gt] for option in turn.options):
            why = f"its question {turn.question!r:.40} has no wrong answer"
        else:
            items.append(_Turn(dialog, caption, number))
            continue
        items.append(LeftOut(dialog.image, why))
    return items

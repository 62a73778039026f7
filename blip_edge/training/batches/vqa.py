"""Questions about pictures, and what people answered."""

# B questions · A answers, A >= B

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import QuestionRow
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer, clean_question
from blip_edge.training.batches.rows import Example, Feeding, RowBatches
from blip_edge.training.batches.skipping import LeftOut
from blip_edge.training.batches.step import VqaBatch

__all__ = ["VqaBatches"]

_ONLY = 0.2
"""Weight of an answer that is the only one, as Visual Genome's are (BLIP's data loader)."""


class _Asked(NamedTuple):
    image: str
    question: str
    answers: dict[str, float]
    """Each different one, with its weight."""


class VqaBatches(RowBatches[_Asked, VqaBatch]):
    """Batches of questions, each with all different answers to it.

    An answer weighs as much as the share of people who gave it, and 0.2 where only one is known. A
    question without words, or without an answer, is left out and listed.

    Args:
        data: where the pictures are.
        rows: questions with answers.
        tokenizer: the model's.
        preprocess: the model's.
        max_length: tokens of a question that are kept.
        max_answer_length: tokens of an answer that are kept; no more than the model can hold.
        feeding: see `Feeding`.

    Raises:
        ArtifactError: there are no rows, too few for all processes, or too many of no use.
    """

    def __init__(
        self,
        data: Dataset,
        rows: Sequence[QuestionRow],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        max_length: int = 35,
        max_answer_length: int = 512,
        **feeding: Unpack[Feeding],
    ) -> None:
        self._max_length, self._max_answer_length = max_length, max_answer_length
        items = [_item(row) for row in rows]
        super().__init__(data, items, "questions", tokenizer, preprocess, feeding)

    def _images(self, item: _Asked) -> tuple[str, ...]:
        return (item.image,)

    def _collate(self, examples: list[Example[_Asked]]) -> VqaBatch:
        items = [row.item for row in examples]
        ids, mask = self._encoded([item.question for item in items], self._max_length)
        answers = [answer for item in items for answer in item.answers]
        answer_ids, answer_mask = self._encoded(answers, self._max_answer_length)
        counts = torch.tensor([len(item.answers) for item in items])
        return VqaBatch(
            pixel_values=self._normalised([row.pixels[0] for row in examples]),
            input_ids=ids,
            attention_mask=mask,
            answer_ids=answer_ids,
            answer_mask=answer_mask,
            question=torch.arange(len(items)).repeat_interleave(counts),
            weights=torch.tensor([share for item in items for share in item.answers.values()]),
        )


def _item(row: QuestionRow) -> _Asked | LeftOut:
    question = clean_question(row.question).strip()
    if not question.strip("?"):
        return LeftOut(row.image, f"its question {row.question!r:.40} has no words")
    counts = Counter(answer.strip() for answer in row.answers)
    total = counts.total()
    del counts[""]
    if not counts:
        return LeftOut(row.image, f"its question {row.question!r:.40} has no answer")
    weights = {answer: count / total for answer, count in counts.items()}
    return _Asked(row.image, question, weights if total > 1 else dict.fromkeys(counts, _ONLY))

"""Answers to questions about pictures and clips: generated, or picked from a list.

The question is read with the picture before it; the answer is decoded from the question's states
alone (paper, section 5.3).
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar, Unpack, cast, overload

import numpy as np

from blip_edge.errors import UsageError
from blip_edge.generation import Generation
from blip_edge.runtime.captioning import Search, overridden
from blip_edge.runtime.decoding import search
from blip_edge.runtime.engine import I32, Answerer, Limited
from blip_edge.runtime.loaded import Loaded, Visual, alike, groups, text_list, visual_list
from blip_edge.runtime.ranking import rank
from blip_edge.runtime.results import Answer
from blip_edge.text import clean_question

__all__ = ["Answering"]

# Tokens that BLIP keeps of a question.
_LENGTH = 35
# BLIP's own program ranks by the loss it was trained with.
_LEGACY_SMOOTHING = 0.1

_V = TypeVar("_V", bound=Visual)


class Answering(Loaded):
    """A model that answers questions."""

    @property
    def _answerer(self) -> Answerer:
        return cast(Answerer, self.require("vqa"))

    @overload
    def answer(
        self,
        image: Visual,
        question: str,
        answers: None = None,
        *,
        legacy: bool = False,
        **how: Unpack[Search],
    ) -> Answer: ...

    @overload
    def answer(
        self,
        image: Visual,
        question: str,
        answers: Sequence[str],
        *,
        legacy: bool = False,
        k: int = 128,
    ) -> list[Answer]: ...

    @overload
    def answer(
        self,
        image: list[_V],
        question: list[str],
        answers: None = None,
        *,
        legacy: bool = False,
        **how: Unpack[Search],
    ) -> list[Answer]: ...

    @overload
    def answer(
        self,
        image: list[_V],
        question: list[str],
        answers: Sequence[str],
        *,
        legacy: bool = False,
        k: int = 128,
    ) -> list[list[Answer]]: ...

    def answer(
        self,
        image: Visual | list[_V],
        question: str | list[str],
        answers: Sequence[str] | None = None,
        *,
        legacy: bool = False,
        k: int = 128,
        **how: Unpack[Search],
    ) -> Answer | list[Answer] | list[list[Answer]]:
        """Answer a question about a picture; a list of both gives a list.

        Args:
            image: a path, a PIL picture, a `Clip`, or a list of them.
            question: one for each of them.
            answers: rank these, likeliest first; the answer is generated without them.
            legacy: answer as BLIP's own program does: what is generated reads the padding of its
                question, and so depends on its neighbours; a list is ranked by the smoothed loss.
            k: how many of `answers` are scored: those with the likeliest first tokens.
            how: beams, min_length, max_length, … of generated answers; see `captioning.Search`.

        Raises:
            UsageError: settings that do not make sense, or not one question for each picture.
            ArtifactError: a picture that cannot be read, or a model that does not answer.
        """
        images, questions = visual_list(image), text_list(question)
        if len(images) != len(questions):
            raise UsageError(f"{len(questions)} questions for {len(images)} pictures")
        if answers is not None:
            self.require("vqa")
            ranked = [
                self._rank(one, asked, answers, k=k, legacy=legacy)
                for one, asked in zip(images, questions, strict=True)
            ]
            return ranked if isinstance(image, list) else ranked[0]
        generation = overridden(self.generation, how)
        self.check_limits(generation)
        generated: list[Answer] = []
        for some in alike(images, self._answerer.max_images):
            with self.turn:
                seen = self.encode(images[some])
                generated += self._generate(seen, questions[some], generation, legacy=legacy)
        return generated if isinstance(image, list) else generated[0]

    def answer_each(
        self, image: Visual, questions: Sequence[str], **how: Unpack[Search]
    ) -> list[Answer]:
        """Answer several questions about one picture or clip, which is encoded once.

        Raises:
            UsageError: settings that do not make sense.
            ArtifactError: what cannot be read, or a model that does not answer.
        """
        engine, generation = self._answerer, overridden(self.generation, how)
        self.check_limits(generation)
        with self.turn:
            seen = self.encode([image])
            return [
                answer
                for some in groups(questions, engine.max_images)
                for answer in self._generate(seen, some, generation, legacy=False)
            ]

    def _generate(
        self, seen: Any, questions: Sequence[str], generation: Generation, *, legacy: bool
    ) -> list[Answer]:
        engine, (ids, mask) = self._answerer, self._question_ids(questions)
        asked = engine.ask(seen, ids, mask, reads_padding=legacy)
        session = engine.start(asked, len(questions) * generation.rows)
        prompt = np.full((len(questions), 1), generation.bos_token_id, dtype=np.int32)
        return [
            Answer(self.tokenizer.decode(best.token_ids[1:]), math.exp(sum(best.log_probs)))
            for best, *_ in search(session, prompt, generation)
        ]

    def _rank(
        self, image: Visual, question: str, answers: Sequence[str], *, k: int, legacy: bool
    ) -> list[Answer]:
        engine = self._answerer
        candidates = [self.tokenizer.answer_ids(answer) for answer in answers]
        with self.turn:
            asked = engine.ask(self.encode([image]), *self._question_ids([question]))
            ranked = rank(
                lambda rows: engine.start(asked, rows),
                candidates,
                self.generation,
                k=k,
                max_rows=engine.max_rows if isinstance(engine, Limited) else None,
                label_smoothing=_LEGACY_SMOOTHING if legacy else 0.0,
            )
        return [Answer(answers[one.index], one.probability) for one in ranked]

    def _question_ids(self, questions: Sequence[str]) -> tuple[I32, I32]:
        cleaned = [clean_question(question) for question in questions]
        length = min(_LENGTH, self._answerer.max_tokens)
        return self.tokenizer.encode(cleaned, max_length=length, first="enc")

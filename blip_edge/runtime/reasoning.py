"""Whether sentences are true of two pictures (NLVR2)."""

from collections.abc import Iterator
from typing import TypeVar, cast, overload

import numpy as np

from blip_edge.errors import UsageError
from blip_edge.runtime.engine import Reasoner
from blip_edge.runtime.loaded import Loaded, Picture, groups, picture_list, text_list
from blip_edge.runtime.matching import softmax
from blip_edge.runtime.results import Reason
from blip_edge.text import clean_caption, exchange_sides

__all__ = ["Reasoning"]

# BLIP keeps this many words of a sentence, and never cuts its tokens.
_WORDS = 40

_P = TypeVar("_P", bound=Picture)


class Reasoning(Loaded):
    """A model that judges sentences about two pictures."""

    @overload
    def reason(
        self, left: Picture, right: Picture, sentence: str, *, legacy: bool = False, seed: int = 0
    ) -> Reason: ...

    @overload
    def reason(
        self,
        left: list[_P],
        right: list[_P],
        sentence: list[str],
        *,
        legacy: bool = False,
        seed: int = 0,
    ) -> list[Reason]: ...

    def reason(
        self,
        left: Picture | list[_P],
        right: Picture | list[_P],
        sentence: str | list[str],
        *,
        legacy: bool = False,
        seed: int = 0,
    ) -> Reason | list[Reason]:
        """Say whether a sentence is true of two pictures; lists of all three give a list.

        With `legacy` about every second pair, as `seed` draws them, changes places first, and left
        and right in its sentence with it: BLIP's own program does so even when it tests.

        Raises:
            UsageError: lists of different lengths.
            ArtifactError: a picture that cannot be read, or a model that does not judge.
        """
        lefts, rights, sentences = picture_list(left), picture_list(right), text_list(sentence)
        if not len(lefts) == len(rights) == len(sentences):
            raise UsageError(
                f"{len(lefts)} left and {len(rights)} right pictures for {len(sentences)} sentences"
            )
        triples = list(zip(lefts, rights, sentences, strict=True))
        if legacy:
            draws = np.random.default_rng(seed).random(len(triples))
            triples = [
                (b, a, exchange_sides(said)) if draw < 0.5 else (a, b, said)
                for (a, b, said), draw in zip(triples, draws, strict=True)
            ]
        found = list(self._judge(triples))
        return found if isinstance(sentence, list) else found[0]

    def _judge(self, triples: list[tuple[Picture, Picture, str]]) -> Iterator[Reason]:
        engine = cast(Reasoner, self.require("nlvr2"))
        for group in groups(triples, max(1, engine.max_images // 2)):
            lefts, rights, sentences = zip(*group, strict=True)
            cleaned = [clean_caption(sentence, _WORDS) for sentence in sentences]
            ids, mask = self.tokenizer.encode(cleaned, max_length=engine.max_tokens, first="enc")
            pixels = self.preprocess([*lefts, *rights])
            with self.turn:
                logits = engine.reason(engine.encode(pixels), ids, mask)
            for share in softmax(logits):
                yield Reason("True" if share.argmax() else "False", float(share.max()))

"""How well texts fit a picture or a clip: by embeddings, and by reading them with it in view.

A clip's embedding is the mean of its frames', and a text is read with all its frames in view, side
by side: nothing knows of time (paper, section 5.6).
"""

from collections.abc import Sequence
from typing import Any, TypeVar, cast, overload

import numpy as np

from blip_edge.errors import UsageError
from blip_edge.runtime.engine import F32, I32, Matcher
from blip_edge.runtime.loaded import (
    Loaded,
    Picture,
    Visual,
    alike,
    groups,
    text_list,
    visual_list,
)
from blip_edge.runtime.results import Match
from blip_edge.text import COMPARED_TOKENS, First, clean_caption

__all__ = ["Matching", "softmax"]

# Words that BLIP keeps of a text it compares.
_WORDS = 30
# Words and tokens of a caption, and tokens of a dialog.
_CAPTION, _DIALOG = 40, 256
# Rows of the text encoder at once; more would only use more memory.
_CHUNK = 64

_V = TypeVar("_V", bound=Visual)


class Matching(Loaded):
    """A model that compares texts with pictures."""

    @property
    def _matcher(self) -> Matcher:
        return cast(Matcher, self.require("retrieval"))

    @overload
    def match(
        self, image: Visual, texts: Sequence[str], *, legacy: bool = False
    ) -> list[Match]: ...

    @overload
    def match(
        self, image: list[_V], texts: Sequence[str], *, legacy: bool = False
    ) -> list[list[Match]]: ...

    def match(
        self, image: Visual | list[_V], texts: Sequence[str], *, legacy: bool = False
    ) -> list[Match] | list[list[Match]]:
        """How well each of `texts` fits a picture or clip, in their order; a list gives a list of
        lists.

        With `legacy` the texts that are read with the picture start with [CLS], as in BLIP's
        released matcher and in `transformers`, and not with the [ENC] of its training.

        Raises:
            UsageError: no texts.
            ArtifactError: a picture that cannot be read, or a model that does not match.
        """
        embedded = self.embed_text(list(texts))
        first: First = "cls" if legacy else "enc"
        found = [self._match(one, texts, embedded, first) for one in visual_list(image)]
        return found if isinstance(image, list) else found[0]

    def _match(
        self, image: Visual, texts: Sequence[str], embedded: F32, first: First
    ) -> list[Match]:
        engine = self._matcher
        with self.turn:
            seen = self.encode([image])
            cosines = embedded @ engine.embed_image(seen)[0]  # (R,)
            itm = softmax(self._read_with(seen, texts, first))[:, 1]
        return [
            Match(text, float(cosine), float(share))
            for text, cosine, share in zip(texts, cosines, itm, strict=True)
        ]

    def itm_logits(self, image: Visual, texts: Sequence[str], *, words: int = _WORDS) -> F32:
        """(R, 2) logits, class 1 = match, of texts that are read with the picture in view.

        Of a text the first `words` count.
        """
        self.require("retrieval")
        with self.turn:
            return self._read_with(self.encode([image]), texts, "enc", words)

    @property
    def dialog_length(self) -> int:
        """Tokens of a dialog that it can read."""
        return min(_DIALOG, self._matcher.max_tokens)

    def dialog_scores(self, image: Picture, caption: str, texts: Sequence[str]) -> F32:
        """(R,) probabilities that texts, dialogs that end in an answer, are true of a picture.

        Each is read with the picture's caption and the picture in view; see `data.dialog_texts`.
        """
        engine = self._matcher
        said = self._encoded([clean_caption(caption, _CAPTION)], _CAPTION, "cls")
        pixels = self.preprocess([image])
        with self.turn:
            seen = engine.with_caption(engine.encode(pixels), *said)
            logits = [
                engine.match(seen, *self._encoded(some, self.dialog_length, "enc"))
                for some in groups(texts, _CHUNK)
            ]
        return softmax(np.concatenate(logits))[:, 1]

    def _encoded(self, texts: Sequence[str], length: int, first: First) -> tuple[I32, I32]:
        length = min(length, self._matcher.max_tokens)
        return self.tokenizer.encode(texts, max_length=length, first=first)

    def _read_with(self, seen: Any, texts: Sequence[str], first: First, words: int = _WORDS) -> F32:
        logits = [
            self._matcher.match(seen, *self._encoded(some, COMPARED_TOKENS, first))
            for some in _cleaned(texts, words)
        ]
        return np.concatenate(logits)

    def embed_image(self, image: Visual | list[_V]) -> F32:
        """The picture's or clip's unit vector (E,) in the space that it shares with texts; a list:
        (B, E)."""
        engine, images = self._matcher, visual_list(image)
        if not images:
            raise UsageError("there are no pictures to embed")
        parts: list[F32] = []
        for some in alike(images, engine.max_images):
            with self.turn:
                parts.append(engine.embed_image(self.encode(images[some])))
        vectors = np.concatenate(parts)
        return vectors if isinstance(image, list) else vectors[0]

    def embed_text(self, text: str | list[str], *, words: int = _WORDS) -> F32:
        """The text's unit vector (E,) in the space that it shares with pictures; a list: (B, E).

        Of a text the first `words` count.
        """
        if text == []:
            raise UsageError("there are no texts to compare")
        parts: list[F32] = []
        for cleaned in _cleaned(text_list(text), words):
            with self.turn:
                parts.append(
                    self._matcher.embed_text(*self._encoded(cleaned, COMPARED_TOKENS, "cls"))
                )
        vectors = np.concatenate(parts)
        return vectors if isinstance(text, list) else vectors[0]


def _cleaned(texts: Sequence[str], words: int) -> list[list[str]]:
    return [[clean_caption(text, words) for text in group] for group in groups(texts, _CHUNK)]


def softmax(logits: F32) -> F32:
    """(R, C) logits to probabilities."""
    weights: F32 = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights

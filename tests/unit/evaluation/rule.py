"""A model that is a rule: it looks at a picture's first pixel and nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.runtime.results import Answer, Caption, Match, Reason
from blip_edge.text import Tokenizer

__all__ = ["COLOURS", "Rule"]

COLOURS = ["red", "green", "blue", "white"]
F32 = NDArray[np.float32]


class Rule:
    """Knows four colours; what it does with them is told."""

    def __init__(self, *, wrong: str | None = None) -> None:
        self.wrong = wrong
        self.reads = 0

    def see(self, picture: Image.Image) -> str:
        pixel = picture.getpixel((0, 0))
        found = next(c for c in COLOURS if Image.new("RGB", (1, 1), c).getpixel((0, 0)) == pixel)
        return "green" if found == self.wrong else found

    def vector(self, text: str) -> F32:
        return np.array([colour in text for colour in COLOURS], dtype=np.float32)

    def answer(
        self,
        image: list[Image.Image],
        question: list[str],
        answers: Sequence[str] | None = None,
        /,
        **how: int | None,
    ) -> list[Any]:
        self.how = how
        said = [Answer(self.see(picture), 1.0) for picture in image]
        return said if answers is None else [[one, Answer("never", 0.0)] for one in said]

    def reason(
        self, left: list[Image.Image], right: list[Image.Image], sentence: list[str], /
    ) -> list[Reason]:
        same = [self.see(a) == self.see(b) for a, b in zip(left, right, strict=True)]
        return [Reason("True" if one else "False", 1.0) for one in same]

    def embed_image(self, image: list[Image.Image], /) -> F32:
        return np.stack([self.vector(self.see(picture)) for picture in image])

    def embed_text(self, text: list[str], /) -> F32:
        return np.stack([self.vector(one) for one in text])

    def itm_logits(self, image: Image.Image, texts: Sequence[str], /) -> F32:
        self.reads += len(texts)
        fits = np.array([self.see(image) in text for text in texts], dtype=np.float32)
        return np.stack([-fits, fits], axis=1)

    def match(self, image: Image.Image, texts: Sequence[str], /) -> list[Match]:
        fits = self.itm_logits(image, texts)[:, 1]
        return [Match(text, float(fit), float(fit)) for text, fit in zip(texts, fits, strict=True)]

    tokenizer = Tokenizer.train(["what colour is it red green blue white no"] * 9, 90)
    dialog_length = 60

    def dialog_scores(self, image: Image.Image, caption: str, texts: Sequence[str], /) -> F32:
        """The later of a dialog's words decide."""
        seen = self.see(image)
        fits = [seen == text.rpartition("[SEP] ")[2] for text in texts]
        return np.array(fits, dtype=np.float32) + np.array(
            [0.5 * (text.endswith("white")) for text in texts], dtype=np.float32
        )

    def caption(self, image: list[Image.Image], /, **how: float | None) -> list[Caption]:
        return [Caption(f"a {self.see(picture)} one", 0.0, ()) for picture in image]

"""A captioner that says what colour a picture has, and a filter that looks for it in a text."""

from typing import Any

from PIL import Image

from blip_edge.errors import ArtifactError
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.results import Caption, Match

__all__ = ["COLOURS", "Critic", "Painter"]

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


class Painter:
    """Says the colour of a picture, and with other seeds and numbers other words before it."""

    preprocess = Preprocess(size=4)

    def __init__(self) -> None:
        self.seen = 0

    def require(self, task: str) -> None:
        if task != "caption":
            raise ArtifactError("this model cannot match texts with pictures")

    def captions(
        self, image: list[Image.Image], count: int, *, seed: int = 0, **how: Any
    ) -> list[list[Caption]]:
        self.seen += len(image)
        words = ("a", "the", "one", "this")
        return [
            [
                Caption(f"{words[(seed + n) % 4]} {_colour(one)} picture", -1.0, (), ())
                for n in range(count)
            ]
            for one in image
        ]


class Critic:
    """Believes texts that name the colour, by `sure`."""

    preprocess = Preprocess(size=6)

    def __init__(self, sure: float = 0.9) -> None:
        self.sure = sure
        self.asked: list[int] = []

    def require(self, task: str) -> None:
        if task != "retrieval":
            raise ArtifactError("this model cannot caption pictures")

    def match(self, image: Image.Image, texts: list[str]) -> list[Match]:
        self.asked.append(len(texts))
        said = [_colour(image) in text.split() for text in texts]
        return [
            Match(text, 0.5, self.sure if right else 1 - self.sure)
            for text, right in zip(texts, said, strict=True)
        ]


def _colour(image: Image.Image) -> str:
    pixel = image.getpixel((1, 1))
    return next((name for name, value in COLOURS.items() if value == pixel), "grey")

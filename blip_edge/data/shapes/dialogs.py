"""Dialogues about a picture, in VisDial 1.0's own format.

Ten rounds a picture; every round has 100 answer options, of which one was given. The given answer's
other wordings are among the options too and are what dense relevance rewards.
"""

from typing import Any

import numpy as np

from blip_edge.data.shapes.language import captions
from blip_edge.data.shapes.questions import Asked, ask
from blip_edge.data.shapes.words import COLOURS, SHAPES, SIZES, TEXTURES, places
from blip_edge.data.shapes.world import Picture, Purpose, World

__all__ = ["visdial"]

_ROUNDS = 10
_OPTIONS = 100
# How an answer can be worded, and how relevant that wording is when it is not the given one.
_WORDINGS = (("{}", 1.0), ("{} i think", 0.8), ("maybe {}", 0.5))


def visdial(
    world: World, pictures: list[Picture], split: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The dialogues' document, and the rows of dense relevance: one round of each dialogue."""
    questions, answers = _Table(), _Table(_every_answer())
    dialogs: list[dict[str, Any]] = []
    dense: list[dict[str, Any]] = []
    for picture in pictures:
        rng = world.rng(picture.split, picture.index, Purpose.DIALOG)
        asked = ask(picture.scene, world, rng, _ROUNDS)
        rounds = [_round(one, questions, answers, rng) for one in asked]
        judged = int(rng.integers(len(rounds)))
        dialogs.append(
            {
                "image_id": picture.image_id,
                "image": picture.image,
                "caption": captions(picture.scene, world.recipe, rng)[0],
                "dialog": rounds,
            }
        )
        dense.append(
            {
                "image_id": picture.image_id,
                "round_id": judged + 1,
                "gt_relevance": _relevance(rounds[judged], asked[judged], answers),
            }
        )
    data = {"questions": questions.texts, "answers": answers.texts, "dialogs": dialogs}
    return {"version": "1.0", "split": split, "data": data}, dense


class _Table:
    """Texts and their numbers: VisDial's files name texts by number."""

    def __init__(self, texts: list[str] | None = None) -> None:
        self.texts = texts or []
        self._numbers = {text: number for number, text in enumerate(self.texts)}

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


def _every_answer() -> list[str]:
    """All wordings of all answers, those of other worlds too: a small world has too few."""
    values = ("yes", "no", *map(str, range(10)), *COLOURS, *SHAPES, *SIZES, *TEXTURES, *places(3))
    return [wording.format(value) for value in values for wording, _ in _WORDINGS]


def _round(
    asked: Asked, questions: _Table, answers: _Table, rng: np.random.Generator
) -> dict[str, Any]:
    ways = [answers.number(wording.format(asked.answer)) for wording, _ in _WORDINGS]
    given = ways[int(rng.choice(len(ways), p=[0.7, 0.2, 0.1]))]
    # Wrong answers of the same sort first: they are the options that are hard to tell apart.
    rivals = [answers.number(answer) for answer in asked.answers if answer != asked.answer]
    fixed = [*ways, *rivals]
    rest = np.setdiff1d(np.arange(len(answers)), fixed)
    options = [*fixed, *rng.permutation(rest)[: _OPTIONS - len(fixed)].tolist()]
    options = [options[index] for index in rng.permutation(_OPTIONS).tolist()]
    return {
        "question": questions.number(asked.question.removesuffix("?")),
        "answer": given,
        "answer_options": options,
        "gt_index": options.index(given),
    }


def _relevance(one: dict[str, Any], asked: Asked, answers: _Table) -> list[float]:
    worth = {answers.number(text.format(asked.answer)): value for text, value in _WORDINGS}
    worth[one["answer"]] = 1.0
    return [worth.get(option, 0.0) for option in one["answer_options"]]

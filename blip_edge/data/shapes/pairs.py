"""Sentences about two pictures: NLVR2's task.

Every sentence is shown with two pairs of pictures, true of one and false of the other, so that
the words alone never give the label away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blip_edge.data.shapes.claim import Claim, Phrase, Relation, fits, holds
from blip_edge.data.shapes.language import name, plural
from blip_edge.data.shapes.scene import Scene
from blip_edge.data.shapes.words import NUMBERS, RELATIONS
from blip_edge.data.shapes.world import Picture, Purpose, World

__all__ = ["sentences"]

_SENTENCES = 30  # sentences to think of for one row
_PAIRS = 60  # pairs of pictures to try each with


@dataclass(frozen=True)
class _Sentence:
    text: str
    true: Callable[[Scene, Scene], bool]
    """Whether it is true of a left and a right scene."""


def sentences(world: World, pictures: list[Picture], split: str) -> list[dict[str, Any]]:
    """Rows `{"identifier", "sentence", "label", "images"}`: two pairs of pictures a sentence.

    Identifiers are NLVR2's, split-set-pair-sentence: rows that differ in the pair alone belong
    together when consistency is measured.
    """
    rows = []
    for number in range(len(pictures) * world.recipe.sentences):
        home = pictures[number % len(pictures)]
        rng = world.rng(home.split, number, Purpose.SENTENCES)
        found = _with_pairs(home, pictures, world, rng)
        if found is None:  # too few pictures to be wrong about
            continue
        text, pairs = found
        for pair, index in enumerate(rng.permutation(2).tolist()):
            left, right = pairs[bool(index)]
            rows.append(
                {
                    "identifier": f"{split}-{number}-{pair}-0",
                    "sentence": text,
                    "label": str(bool(index)),
                    "images": [left.image, right.image],
                }
            )
    return rows


def _with_pairs(
    home: Picture, pictures: list[Picture], world: World, rng: np.random.Generator
) -> tuple[str, dict[bool, tuple[Picture, Picture]]] | None:
    """A sentence that `home` suggests, with a pair that it is true of and one that it is not."""
    templates = _TEMPLATES if world.recipe.objects > 1 else _OF_SINGLE_THINGS
    for _ in range(_SENTENCES):
        sentence = templates[rng.integers(len(templates))](home.scene, world, rng)
        pairs: dict[bool, tuple[Picture, Picture]] = {}
        for _ in range(_PAIRS):
            other = pictures[rng.integers(len(pictures))]
            if other == home:
                continue
            pair = (home, other) if rng.random() < 0.5 else (other, home)
            pairs.setdefault(sentence.true(pair[0].scene, pair[1].scene), pair)
            if len(pairs) == 2:
                return sentence.text, pairs
    return None


def _both(scene: Scene, world: World, rng: np.random.Generator) -> _Sentence:
    phrase = _sort(scene, world, rng)

    def true(left: Scene, right: Scene) -> bool:
        return bool(fits(phrase, left)) and bool(fits(phrase, right))

    return _Sentence(f"both pictures show {name(phrase)}", true)


def _only_one(scene: Scene, world: World, rng: np.random.Generator) -> _Sentence:
    phrase = _sort(scene, world, rng)

    def true(left: Scene, right: Scene) -> bool:
        return bool(fits(phrase, left)) != bool(fits(phrase, right))

    return _Sentence(f"only one of the pictures shows {name(phrase)}", true)


def _sides(scene: Scene, world: World, rng: np.random.Generator) -> _Sentence:
    first, second = _sort(scene, world, rng), _anything(world, rng)
    if rng.random() < 0.5:
        first, second = second, first

    def true(left: Scene, right: Scene) -> bool:
        return bool(fits(first, left)) and bool(fits(second, right))

    text = f"the left picture shows {name(first)} and the right picture shows {name(second)}"
    return _Sentence(text, true)


def _total(scene: Scene, world: World, rng: np.random.Generator) -> _Sentence:
    phrase = _sort(scene, world, rng)
    number = int(rng.integers(1, 4))

    def true(left: Scene, right: Scene) -> bool:
        return len(fits(phrase, left)) + len(fits(phrase, right)) == number

    if number == 1:
        verb, noun = "is", name(replace(phrase, number=1))
    else:
        verb, noun = "are", f"{NUMBERS[number]} {plural(phrase)}"
    return _Sentence(f"there {verb} {noun} in the two pictures together", true)


def _more(scene: Scene, world: World, rng: np.random.Generator) -> _Sentence:
    phrase = Phrase() if rng.random() < 0.5 else _sort(scene, world, rng)
    sides = ("left", "right") if rng.random() < 0.5 else ("right", "left")

    def true(left: Scene, right: Scene) -> bool:
        numbers = {"left": len(fits(phrase, left)), "right": len(fits(phrase, right))}
        return numbers[sides[0]] > numbers[sides[1]]

    words = plural(phrase)
    text = f"the {sides[0]} picture shows more {words} than the {sides[1]} picture"
    return _Sentence(text, true)


def _related(scene: Scene, world: World, rng: np.random.Generator) -> _Sentence:
    relation = RELATIONS[rng.integers(len(RELATIONS))]
    phrases = _sort(scene, world, rng), _sort(scene, world, rng)
    claim = Claim(phrases, (Relation(0, relation, 1),))

    def true(left: Scene, right: Scene) -> bool:
        return holds(claim, left) or holds(claim, right)

    words = f"{name(phrases[0])} {relation} {name(phrases[1])}"
    return _Sentence(f"at least one of the pictures shows {words}", true)


_OF_SINGLE_THINGS = (_both, _only_one, _sides, _total)
"""Of pictures of one thing none shows more than another, and in none is anything beside it."""
_TEMPLATES = (*_OF_SINGLE_THINGS, _more, _related)


def _sort(scene: Scene, world: World, rng: np.random.Generator) -> Phrase:
    """A sort of things that `scene` shows."""
    thing = scene.things[rng.integers(len(scene.things))]
    return _some(thing.colour, thing.shape, rng)


def _anything(world: World, rng: np.random.Generator) -> Phrase:
    """A sort of things that any picture may show."""
    colour = world.colours[rng.integers(len(world.colours))]
    return _some(colour, world.shapes[rng.integers(len(world.shapes))], rng)


def _some(colour: str, shape: str, rng: np.random.Generator) -> Phrase:
    choice = rng.random()
    if choice < 0.4:
        return Phrase(colour=colour)
    return Phrase(shape=shape) if choice < 0.8 else Phrase(colour=colour, shape=shape)

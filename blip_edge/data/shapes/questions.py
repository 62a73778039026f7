"""Questions about a scene, answered by ten people who do not always agree.

A question is only asked when the scene settles it: things that are asked about fit one description
alone, and directions are those of different columns or rows. The most common of the ten answers
is always the true one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from blip_edge.data.shapes.claim import Phrase, fits
from blip_edge.data.shapes.language import name, phrases_for, plural
from blip_edge.data.shapes.recipe import ShapesRecipe
from blip_edge.data.shapes.scene import Scene, Thing, related
from blip_edge.data.shapes.words import RELATIONS, THING, places
from blip_edge.data.shapes.world import Picture, Purpose, World

__all__ = ["Asked", "answer_list", "ask", "questions"]

_PEOPLE = 10
_DISSENT = 3  # at most so many of the ten answer something else
_TRIES = 20  # for each question
_YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Asked:
    """A question, its true answer, and every answer somebody could give to such a question."""

    question: str
    answer: str
    answers: tuple[str, ...]

    @property
    def question_type(self) -> str:
        """The first two words, such as "how many"."""
        return " ".join(self.question.split()[:2])

    @property
    def answer_type(self) -> str:
        """VQAv2's: yes/no, number or other."""
        if self.answer in _YES_NO:
            return "yes/no"
        return "number" if self.answer.isdigit() else "other"


def questions(world: World, pictures: list[Picture]) -> list[dict[str, Any]]:
    """Rows as VQAv2's, with ten answers each."""
    rows = []
    for picture in pictures:
        rng = world.rng(picture.split, picture.index, Purpose.QUESTIONS)
        asked = ask(picture.scene, world, rng, world.recipe.questions)
        for number, one in enumerate(asked):
            rows.append(
                {
                    "question_id": picture.image_id * 100 + number,
                    "image": picture.image,
                    "question": one.question,
                    "answer": _people(one, rng),
                    "question_type": one.question_type,
                    "answer_type": one.answer_type,
                }
            )
    return rows


def answer_list(world: World) -> list[str]:
    """Every answer that a question about this world can have."""
    recipe = world.recipe
    numbers = tuple(str(number) for number in range(recipe.objects + 1))
    known = (
        _YES_NO, numbers, world.colours, world.shapes, world.sizes * (recipe.sizes > 1),
        world.textures * (recipe.textures > 1), places(recipe.places),
    )  # fmt: skip
    return [answer for sort in known for answer in sort]


def ask(scene: Scene, world: World, rng: np.random.Generator, number: int) -> list[Asked]:
    """Up to `number` different questions about a scene."""
    found: dict[str, Asked] = {}
    for _ in range(_TRIES * number):
        asked = _SORTS[rng.integers(len(_SORTS))](scene, world, rng)
        if asked is not None:
            found.setdefault(asked.question, asked)
        if len(found) == number:
            break
    return list(found.values())


def _people(asked: Asked, rng: np.random.Generator) -> list[str]:
    """Ten answers in any order, the true one at least seven times."""
    others = [answer for answer in asked.answers if answer != asked.answer]
    # The fourth power: mostly all agree, now and then three do not.
    dissent = int((_DISSENT + 1) * rng.random() ** 4) if others else 0
    answers = [others[rng.integers(len(others))] for _ in range(dissent)]
    answers += [asked.answer] * (_PEOPLE - dissent)
    return [answers[index] for index in rng.permutation(_PEOPLE).tolist()]


def _attribute(scene: Scene, world: World, rng: np.random.Generator) -> Asked | None:
    """What colour, shape, size or texture one thing has."""
    values = {
        "colour": world.colours,
        "shape": world.shapes,
        "size": world.sizes,
        "texture": world.textures,
    }
    asked = [key for key, sort in values.items() if len(sort) > 1]
    key = asked[rng.integers(len(asked))]
    thing = scene.things[rng.integers(len(scene.things))]
    about = _unique(thing, scene, world.recipe, rng, hide=key)
    if about is None:
        return None
    verb = {"colour": "what colour is", "shape": "what shape is", "size": "what size is"}
    question = f"{verb.get(key, 'what texture has')} {about}?"
    return Asked(question, getattr(thing, key), values[key])


def _where(scene: Scene, world: World, rng: np.random.Generator) -> Asked | None:
    """In which place one thing is."""
    thing = scene.things[rng.integers(len(scene.things))]
    about = _definite(thing, scene, world.recipe, rng)
    if about is None:
        return None
    return Asked(f"where is {about}?", scene.place(thing), places(scene.side))


def _how_many(scene: Scene, world: World, rng: np.random.Generator) -> Asked | None:
    """How many of a sort there are: of none now and then."""
    phrase = _sort(scene, world, rng)
    numbers = tuple(str(number) for number in range(world.recipe.objects + 1))
    return Asked(f"how many {plural(phrase)} are there?", str(len(fits(phrase, scene))), numbers)


def _is_there(scene: Scene, world: World, rng: np.random.Generator) -> Asked | None:
    """Whether there is something of a sort."""
    phrase = _sort(scene, world, rng)
    return _yes_no(f"is there {name(phrase)}?", bool(fits(phrase, scene)))


def _is_related(scene: Scene, world: World, rng: np.random.Generator) -> Asked | None:
    """Whether one thing is left of another."""
    if len(scene.things) < 2:
        return None
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    relation = RELATIONS[rng.integers(len(RELATIONS))]
    # Beside each other is neither above nor below: a "no" that nobody should have to defend.
    decided = related(first, relation, second) or related(second, relation, first)
    names = [_definite(thing, scene, world.recipe, rng) for thing in (first, second)]
    if not decided or None in names:
        return None
    return _yes_no(f"is {names[0]} {relation} {names[1]}?", related(first, relation, second))


def _beside(scene: Scene, world: World, rng: np.random.Generator) -> Asked | None:
    """What colour or shape the only thing in some direction of another has."""
    anchor = scene.things[rng.integers(len(scene.things))]
    relation = RELATIONS[rng.integers(len(RELATIONS))]
    found = [thing for thing in scene.things if related(thing, relation, anchor)]
    about = _definite(anchor, scene, world.recipe, rng)
    if len(found) != 1 or about is None:
        return None
    key, values = (("colour", world.colours), ("shape", world.shapes))[rng.integers(2)]
    question = f"what {key} is the {THING} {relation} {about}?"
    return Asked(question, getattr(found[0], key), values)


_SORTS: tuple[Callable[[Scene, World, np.random.Generator], Asked | None], ...] = (
    _attribute,
    _attribute,
    _where,
    _how_many,
    _is_there,
    _is_related,
    _beside,
)


def _yes_no(question: str, true: bool) -> Asked:
    return Asked(question, "yes" if true else "no", _YES_NO)


def _sort(scene: Scene, world: World, rng: np.random.Generator) -> Phrase:
    """One or two attributes, of a thing that is there as often as not."""
    thing = scene.things[rng.integers(len(scene.things))]
    colour, shape = thing.colour, thing.shape
    if rng.random() < 0.5:
        colour = world.colours[rng.integers(len(world.colours))]
    if rng.random() < 0.5:
        shape = world.shapes[rng.integers(len(world.shapes))]
    only = rng.random()
    if only < 0.3:
        return Phrase(colour=colour)
    return Phrase(shape=shape) if only < 0.6 else Phrase(colour=colour, shape=shape)


def _unique(
    thing: Thing, scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator, *, hide: str
) -> str | None:
    """A description that fits only `thing` and does not give `hide` away; None if there is none."""
    found = [
        phrase for phrase in phrases_for(thing, scene, recipe) if getattr(phrase, hide) is None
    ]
    if len(scene.things) == 1:
        found.append(Phrase())
    return _the(found[rng.integers(len(found))]) if found else None


def _definite(
    thing: Thing, scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator
) -> str | None:
    return _unique(thing, scene, recipe, rng, hide="place")


def _the(phrase: Phrase) -> str:
    return "the " + name(phrase).partition(" ")[2]

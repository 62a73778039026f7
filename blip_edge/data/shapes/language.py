"""What people say of a scene: five true captions a picture, in the grammar of `truth`.

A world of single things has three short templates, each stating all there is to say, so that a
tiny model can learn them in minutes. Otherwise captions differ in what they choose to tell: a
place, a relation, a count, a list, and now one attribute, now another.
"""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np

from blip_edge.data.shapes.claim import Claim, Phrase, Relation, fits
from blip_edge.data.shapes.recipe import ShapesRecipe
from blip_edge.data.shapes.scene import Scene, Thing, related
from blip_edge.data.shapes.truth import ENOUGH_FACTS
from blip_edge.data.shapes.words import NUMBERS, PLURALS, RELATIONS, THING

__all__ = ["CAPTIONS", "captions", "name", "phrase_of", "phrases_for", "plural", "say"]

CAPTIONS = 5
"""Captions a picture."""

_TRIES = 40
_KEEP = 0.75  # chance that an attribute is spoken of
_OPENERS = ("", "", "there is ", "the picture shows ")


def captions(scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator) -> tuple[str, ...]:
    """Five true captions of `scene`; different ones, where its world has so much to say."""
    if recipe.objects == 1:
        return _simple(scene, recipe, rng)
    found: dict[str, None] = {}
    for _ in range(_TRIES):
        claim = _claim(scene, recipe, rng)
        if claim.facts >= ENOUGH_FACTS:
            found.setdefault(say(claim, rng))
        if len(found) == CAPTIONS:
            return tuple(found)
    return _repeat(tuple(found) or _simple(scene, recipe, rng), rng)


def say(claim: Claim, rng: np.random.Generator) -> str:
    """Words for a claim. Relations must link each phrase to the one before it."""
    first = claim.phrases[0]
    if len(claim.phrases) == 1 and first.place and rng.random() < 0.2:
        return f"in the {first.place} there is {name(replace(first, place=None))}"
    linked = {relation.second: relation.name for relation in claim.relations}
    # "there is a star in the top left left of a ring" would be hard on the ear.
    opener = "" if linked and first.place else _OPENERS[rng.integers(len(_OPENERS))]
    if opener == "there is " and _many(first):
        opener = "there are "
    words = name(first)
    for index, phrase in enumerate(claim.phrases[1:], start=1):
        verb = ""
        if index in linked and (first.place or (not opener and rng.random() < 0.5)):
            verb = "are " if _many(claim.phrases[index - 1]) else "is "
        words += f" {verb}{linked.get(index, 'and')} {name(phrase)}"
    return opener + words


def name(phrase: Phrase) -> str:
    """A phrase in words: "a small red circle in the top left", "two striped squares"."""
    noun = phrase.shape or THING
    attributes = (phrase.size, phrase.texture, phrase.colour)
    words = [word for word in attributes if word] + [PLURALS[noun] if _many(phrase) else noun]
    if phrase.number is not None:
        article = NUMBERS[phrase.number]
    else:
        article = "an" if words[0][0] in "aeiou" else "a"
    place = f" in the {phrase.place}" if phrase.place else ""
    return f"{article} {' '.join(words)}{place}"


def plural(phrase: Phrase) -> str:
    """The sort of things that a phrase is about: "striped squares"."""
    return name(replace(phrase, number=2)).partition(" ")[2]


def phrase_of(thing: Thing, recipe: ShapesRecipe) -> Phrase:
    """All that can be said of a thing by itself, in a world where that distinguishes."""
    return Phrase(
        size=thing.size if recipe.sizes > 1 else None,
        texture=thing.texture if recipe.textures > 1 else None,
        colour=thing.colour,
        shape=thing.shape,
    )


def phrases_for(thing: Thing, scene: Scene, recipe: ShapesRecipe) -> list[Phrase]:
    """The phrases that fit `thing` alone in its scene, those with the fewest words first."""
    full = phrase_of(thing, recipe)
    said = [key for key in ("shape", "colour", "size", "texture") if getattr(full, key)]
    found = [
        phrase
        for number in range(1, len(said) + 1)
        for keys in combinations(said, number)
        if len(fits(phrase := Phrase(**{key: getattr(full, key) for key in keys}), scene)) == 1
    ]
    return found


def _simple(scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator) -> tuple[str, ...]:
    thing = scene.things[0]
    noun = name(replace(phrase_of(thing, recipe), place=scene.place(thing)))
    return _repeat((noun, f"there is {noun}", f"the picture shows {noun}"), rng)


def _repeat(texts: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """`texts` in any order, some of them again until there are five."""
    order = rng.permutation(len(texts)).tolist()
    order += rng.integers(len(texts), size=CAPTIONS - len(texts)).tolist()
    return tuple(texts[index] for index in order)


def _claim(scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator) -> Claim:
    pairs = [
        (first, relation, second)
        for first, second in permutations(scene.things, 2)
        for relation in RELATIONS
        if related(first, relation, second)
    ]
    choice = rng.random()
    if pairs and choice < 0.4:
        first, relation, second = pairs[rng.integers(len(pairs))]
        left, right = _partly(first, scene, recipe, rng), _partly(second, scene, recipe, rng)
        return Claim((left, right), (Relation(0, relation, 1),))
    if len(scene.things) > 1 and choice < 0.6:
        number = int(rng.integers(2, min(3, len(scene.things)) + 1))
        chosen = rng.permutation(len(scene.things))[:number].tolist()
        return Claim(tuple(_partly(scene.things[i], scene, recipe, rng) for i in chosen))
    if choice < 0.8:
        return _count(scene, recipe, rng)
    thing = scene.things[rng.integers(len(scene.things))]
    return Claim((replace(_some(thing, recipe, rng), place=scene.place(thing)),))


def _count(scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator) -> Claim:
    """How many there are of a sort, and what else there is."""
    sorts = [_some(thing, recipe, rng, keep=0.5) for thing in scene.things]
    numbers = [len(fits(sort, scene)) for sort in sorts]
    # The most common sort: a count of several is worth more words than a count of one.
    best = int(np.argmax(numbers))
    counted = replace(sorts[best], number=numbers[best])
    others = [thing for thing in scene.things if thing not in fits(sorts[best], scene)]
    if not others or rng.random() < 0.3:
        return Claim((counted,))
    other = others[rng.integers(len(others))]
    return Claim((counted, _some(other, recipe, rng)))


def _partly(thing: Thing, scene: Scene, recipe: ShapesRecipe, rng: np.random.Generator) -> Phrase:
    """Some of what can be said of a thing, its place now and then."""
    phrase = _some(thing, recipe, rng)
    return replace(phrase, place=scene.place(thing)) if rng.random() < 0.15 else phrase


def _some(
    thing: Thing, recipe: ShapesRecipe, rng: np.random.Generator, *, keep: float = _KEEP
) -> Phrase:
    """Some of what can be said of a thing by itself, and at least its colour or shape."""
    phrase = phrase_of(thing, recipe)
    size, texture, colour, shape = rng.random(4)
    return Phrase(
        size=phrase.size if size < keep else None,
        texture=phrase.texture if texture < keep * (phrase.texture != "plain") else None,
        colour=phrase.colour if colour < keep else None,
        shape=phrase.shape if colour >= keep or shape < 0.9 else None,
    )


def _many(phrase: Phrase) -> bool:
    return phrase.number is not None and phrase.number > 1

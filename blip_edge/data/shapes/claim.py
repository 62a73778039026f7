"""What can be claimed of a scene, and whether it holds.

Phrases and relations are the common meaning below captions, questions and sentences about pairs:
language turns a claim into words, truth turns words into a claim, and `holds` settles it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from blip_edge.data.shapes.scene import Scene, Thing, related

__all__ = ["Claim", "Phrase", "Relation", "fits", "holds"]


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """Things that are spoken of. What is None is not said; `number` says exactly how many."""

    size: str | None = None
    texture: str | None = None
    colour: str | None = None
    shape: str | None = None
    place: str | None = None
    number: int | None = None

    @property
    def facts(self) -> int:
        """How many facts are stated."""
        stated = (self.size, self.texture, self.colour, self.shape, self.place, self.number)
        return sum(value is not None for value in stated)


@dataclass(frozen=True)
class Relation:
    """Every thing of phrase number `first` is `name` every thing of phrase number `second`."""

    first: int
    name: str
    second: int


@dataclass(frozen=True)
class Claim:
    """Phrases about different things, and relations among them."""

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...] = ()

    @property
    def facts(self) -> int:
        """How many facts are stated."""
        return sum(phrase.facts for phrase in self.phrases) + len(self.relations)


def fits(phrase: Phrase, scene: Scene) -> list[Thing]:
    """The things that `phrase` describes, whatever number it says."""
    return [thing for thing in scene.things if _is(thing, phrase, scene)]


def holds(claim: Claim, scene: Scene) -> bool:
    """Whether some choice of different things makes every part of `claim` true.

    A phrase with a number takes all the things that it describes, and they must be that many.
    """
    return any(
        all(_relates(relation, chosen) for relation in claim.relations)
        for chosen in _choices(claim.phrases, scene, frozenset())
    )


def _is(thing: Thing, phrase: Phrase, scene: Scene) -> bool:
    return (
        phrase.size in (None, thing.size)
        and phrase.texture in (None, thing.texture)
        and phrase.colour in (None, thing.colour)
        and phrase.shape in (None, thing.shape)
        and (phrase.place is None or phrase.place == scene.place(thing))
    )


def _choices(
    phrases: tuple[Phrase, ...], scene: Scene, taken: frozenset[Thing]
) -> Iterator[list[list[Thing]]]:
    """All ways to give each phrase things of its own."""
    if not phrases:
        yield []
        return
    found = fits(phrases[0], scene)
    if phrases[0].number is None:
        groups = [[thing] for thing in found]
    else:
        groups = [found] if len(found) == phrases[0].number else []
    for group in groups:
        if taken.isdisjoint(group):
            for rest in _choices(phrases[1:], scene, taken | frozenset(group)):
                yield [group, *rest]


def _relates(relation: Relation, chosen: list[list[Thing]]) -> bool:
    return all(
        related(first, relation.name, second)
        for first in chosen[relation.first]
        for second in chosen[relation.second]
    )

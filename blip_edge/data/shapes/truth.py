"""Whether a caption is true of a scene, told without any reference caption.

A caption is true when it can be read wholly, states at least three facts (size, texture, colour,
shape, place, count, relation), and every fact holds. What cannot be read is false. The grammar is
that of `language`:

    caption   = in the PLACE there is item | [there is | there are | the picture shows] list
    list      = item {and item}
    item      = noun [[is] in the PLACE] {[is] RELATION noun [[is] in the PLACE]}
    noun      = (a | an | NUMBER) [SIZE] [TEXTURE] [COLOUR] (SHAPE | thing)[s]
"""

from dataclasses import dataclass, replace

from blip_edge.data.shapes.claim import Claim, Phrase, Relation, holds
from blip_edge.data.shapes.scene import Scene
from blip_edge.data.shapes.words import (
    COLOURS,
    NUMBERS,
    PLURALS,
    RELATIONS,
    SIZES,
    TEXTURES,
    THING,
    places,
)

__all__ = ["ENOUGH_FACTS", "Verdict", "judge", "parse"]

ENOUGH_FACTS = 3
"""A caption that says less is not called true: "a circle" is true of almost everything."""

_SINGULARS = {plural: noun for noun, plural in PLURALS.items()}
_PLACES = tuple(tuple(name.split()) for side in (2, 3) for name in places(side))
_RELATIONS = tuple(tuple(name.split()) for name in RELATIONS)


@dataclass(frozen=True)
class Verdict:
    """What was found out about a caption."""

    parsed: bool
    """The whole caption could be read."""
    facts: int
    """How many facts it states; 0 when it could not be read."""
    true: bool
    """It states enough facts, and all of them hold."""


def judge(caption: str, scene: Scene) -> Verdict:
    """Judge a caption by the scene behind the picture."""
    claim = parse(caption)
    if claim is None:
        return Verdict(parsed=False, facts=0, true=False)
    true = claim.facts >= ENOUGH_FACTS and holds(claim, scene)
    return Verdict(parsed=True, facts=claim.facts, true=true)


def parse(caption: str) -> Claim | None:
    """What a caption claims, or None when it is not wholly in the language of the drawn world."""
    reader = _Reader(caption.lower().strip().removesuffix(".").split())
    try:
        return reader.caption()
    except _Unreadable:
        return None


class _Unreadable(Exception):
    """The words are not in the grammar."""


class _Reader:
    """Reads words from left to right; each method takes one rule of the grammar."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0
        self._phrases: list[Phrase] = []
        self._relations: list[Relation] = []

    def caption(self) -> Claim:
        if self._take("in", "the"):
            place = self._place()
            self._expect("there", "is")
            self._item()
            if self._phrases[0].place or self._phrases[0].number is not None:
                raise _Unreadable
            self._phrases[0] = replace(self._phrases[0], place=place)
        else:
            self._list()
        if self._at < len(self._words):
            raise _Unreadable
        return Claim(tuple(self._phrases), tuple(self._relations))

    def _list(self) -> None:
        singular, plural = self._take("there", "is"), self._take("there", "are")
        if not singular and not plural:
            self._take("the", "picture", "shows")
        self._item()
        if (singular and self._many(0)) or (plural and not self._many(0)):
            raise _Unreadable
        while self._take("and"):
            self._item()

    def _item(self) -> None:
        subject = self._placed_noun()
        while True:
            start = self._at
            self._take("are" if self._many(subject) else "is")
            relation = next((words for words in _RELATIONS if self._take(*words)), None)
            if relation is None:
                self._at = start
                return
            other = self._placed_noun()
            self._relations.append(Relation(subject, " ".join(relation), other))
            subject = other

    def _placed_noun(self) -> int:
        index = self._noun()
        start = self._at
        self._take("is")
        if not self._take("in", "the"):
            self._at = start
        elif self._phrases[index].number is not None:
            raise _Unreadable  # one place never holds several things
        else:
            self._phrases[index] = replace(self._phrases[index], place=self._place())
        return index

    def _noun(self) -> int:
        word = self._next()
        number = NUMBERS.index(word) if word in NUMBERS[1:] else None
        if number is None and word not in ("a", "an"):
            raise _Unreadable
        size, texture, colour = (self._one_of(words) for words in (SIZES, TEXTURES, COLOURS))
        noun = self._next()
        known = PLURALS if number in (None, 1) else _SINGULARS
        if noun not in known:
            raise _Unreadable
        shape = noun if known is PLURALS else _SINGULARS[noun]
        self._phrases.append(
            Phrase(
                size=size,
                texture=texture,
                colour=colour,
                shape=None if shape == THING else shape,
                number=number,
            )
        )
        return len(self._phrases) - 1

    def _place(self) -> str:
        for words in _PLACES:
            if self._take(*words):
                return " ".join(words)
        raise _Unreadable

    def _many(self, phrase: int) -> bool:
        return self._phrases[phrase].number not in (None, 1)

    def _one_of(self, words: tuple[str, ...]) -> str | None:
        return next((word for word in words if self._take(word)), None)

    def _next(self) -> str:
        if self._at == len(self._words):
            raise _Unreadable
        self._at += 1
        return self._words[self._at - 1]

    def _take(self, *words: str) -> bool:
        end = self._at + len(words)
        if tuple(self._words[self._at : end]) != words:
            return False
        self._at = end
        return True

    def _expect(self, *words: str) -> None:
        if not self._take(*words):
            raise _Unreadable

"""The rows of a data set's annotation files, and how each is read from JSON.

The formats are BLIP's own and those of the official data sets; what those leave out (an image id,
an identifier) is filled in. A row that lacks what it needs is an `ArtifactError` that names the
file and the row.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from blip_edge.errors import ArtifactError

__all__ = [
    "Box",
    "CaptionRow",
    "ClipQuestionRow",
    "ClipRow",
    "Dialog",
    "Fields",
    "QueryRow",
    "QuestionRow",
    "Round",
    "SentenceRow",
]

T = TypeVar("T")


class Fields:
    """One row's JSON object; every value is asked for by its type."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ArtifactError(f"{where} is not an object with named fields")
        self._value: dict[str, Any] = value
        self.where = where

    def text(self, key: str, default: str | None = None) -> str:
        """A string; a number is taken as its digits, for ids that are written both ways."""
        value = self._value.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return self._checked(key, value, str)

    def integer(self, key: str) -> int:
        """A whole number."""
        return self._checked(key, self._value.get(key), int)

    def texts(self, key: str) -> tuple[str, ...]:
        """A string, or a list of at least one."""
        value = self._value.get(key)
        found = (value,) if isinstance(value, str) else self.many(key, str)
        if not found:
            raise ArtifactError(f'{self.where}: "{key}" is empty')
        return found

    def many(self, key: str, kind: type[T]) -> tuple[T, ...]:
        """A list whose items are all of one type."""
        return tuple(self._checked(key, item, kind) for item in self.items(key))

    def items(self, key: str) -> list[Any]:
        """A list, whatever its items are."""
        return self._checked(key, self._value.get(key), list)

    def part(self, key: str) -> "Fields":
        """An object inside the row."""
        return Fields(self._value.get(key), f"{self.where}: {key}")

    def parts(self, key: str) -> list["Fields"]:
        """A list of objects inside the row."""
        items = enumerate(self.items(key))
        return [Fields(item, f"{self.where}, {key} {number}") for number, item in items]

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self._value.get(key) is not None

    def wrong(self, key: str, reason: str) -> ArtifactError:
        """The error to raise for a field that has the right type and a wrong value."""
        return ArtifactError(f'{self.where}: "{key}" {reason}')

    def _checked(self, key: str, value: object, kind: type[T]) -> T:
        if value is None:
            raise ArtifactError(f'{self.where} has no "{key}"')
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ArtifactError(f'{self.where}: "{key}" holds {value!r:.40}, not {_NAMES[kind]}')
        return value


_NAMES: dict[type[Any], str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class CaptionRow:
    """A picture and what is said of it: one caption to train with, several to measure with."""

    image: str
    captions: tuple[str, ...]
    """None for the hidden test set of nocaps."""
    image_id: str
    domain: str | None = None
    """Of nocaps: in-domain, near-domain or out-domain."""

    @classmethod
    def read(cls, fields: Fields) -> "CaptionRow":
        image = fields.text("image")
        domain = fields.text("domain") if fields.has("domain") else None
        # BLIP's rows of nocaps say img_id, and no captions: those are for the official server.
        if fields.has("img_id") and not fields.has("caption"):
            return cls(image, (), fields.text("img_id"), domain)
        return cls(image, fields.texts("caption"), fields.text("image_id", image), domain)


@dataclass(frozen=True)
class QuestionRow:
    """A question about a picture, and the people's answers: none for a hidden test set."""

    question_id: str
    image: str
    question: str
    answers: tuple[str, ...]
    question_type: str | None = None
    """VQAv2's: the words that the question starts with, such as "how many"."""
    answer_type: str | None = None
    """VQAv2's: yes/no, number or other."""

    @classmethod
    def read(cls, fields: Fields) -> "QuestionRow":
        answers = fields.texts("answer") if fields.has("answer") else ()
        question_id, image = fields.text("question_id"), fields.text("image")
        asked, answered = (
            fields.text(key) if fields.has(key) else None
            for key in ("question_type", "answer_type")
        )
        return cls(question_id, image, fields.text("question"), answers, asked, answered)


@dataclass(frozen=True)
class SentenceRow:
    """A sentence that is true or false of two pictures, left and right."""

    identifier: str
    sentence: str
    label: bool
    images: tuple[str, str]

    @classmethod
    def read(cls, fields: Fields) -> "SentenceRow":
        images, label = fields.texts("images"), fields.text("label")
        if len(images) != 2:
            raise fields.wrong("images", f"names {len(images)} pictures, not two")
        if label not in ("True", "False"):
            raise fields.wrong("label", f'is {label!r}, not "True" or "False"')
        # BLIP's own files leave the identifier out; the place in the file is as good a name.
        identifier = fields.text("identifier", fields.where.rpartition(" ")[2])
        return cls(identifier, fields.text("sentence"), label == "True", (images[0], images[1]))


@dataclass(frozen=True)
class Round:
    """One question of a dialogue; `options[gt]` is the answer that was given."""

    question: str
    options: tuple[str, ...]
    gt: int
    relevance: tuple[float, ...] | None
    """Of each option, between 0 and 1, when people judged this round."""


@dataclass(frozen=True)
class Dialog:
    """A picture, its caption, and the questions asked about it one after the other."""

    image_id: int
    image: str
    caption: str
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class QueryRow:
    """Whether a picture answers a query."""

    image: str
    text: str
    label: bool

    @classmethod
    def read(cls, fields: Fields) -> "QueryRow":
        label = fields.integer("label")
        if label not in (0, 1):
            raise fields.wrong("label", f"is {label}, not 0 or 1")
        return cls(fields.text("image"), fields.text("text"), label == 1)


@dataclass(frozen=True)
class ClipRow:
    """A clip, by its name without folder and ending, and what happens in it."""

    clip: str
    caption: str

    @classmethod
    def read(cls, fields: Fields) -> "ClipRow":
        return cls(fields.text("clip_name"), fields.text("caption"))


@dataclass(frozen=True)
class ClipQuestionRow:
    """A question about a clip, and its one answer."""

    question_id: str
    clip: str
    question: str
    answer: str

    @classmethod
    def read(cls, fields: Fields) -> "ClipQuestionRow":
        question_id, clip = fields.text("question_id"), fields.text("clip_name")
        return cls(question_id, clip, fields.text("question"), fields.text("answer"))


@dataclass(frozen=True)
class Box:
    """A part of a picture, and which attributes it has: 1 yes, 0 no, -1 not known."""

    image: str
    xywh: tuple[float, float, float, float]
    attributes: tuple[int, ...]

"""What a model says, as small frozen records."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Answer", "Caption", "Match", "Reason"]


@dataclass(frozen=True)
class Caption:
    """What a picture shows, in words."""

    text: str
    """The words after the prompt."""
    score: float
    """Mean log-probability of the generated tokens."""
    token_ids: tuple[int, ...]
    """The prompt, the generated tokens, and [SEP] unless it was cut at `max_length`."""
    log_probs: tuple[float, ...] = ()
    """Log-probability of each generated token under the model alone."""


@dataclass(frozen=True)
class Answer:
    """An answer to a question about a picture."""

    text: str
    score: float
    """The probability of the answer: of its tokens when it was generated, among the candidates
    that were scored when a list was ranked."""


@dataclass(frozen=True)
class Match:
    """How well a text fits a picture."""

    text: str
    itc: float
    """Cosine of the two embeddings, not divided by the temperature."""
    itm: float
    """Probability that they match, by the head that reads the text with the picture before it."""


@dataclass(frozen=True)
class Reason:
    """Whether a sentence is true of two pictures."""

    label: Literal["True", "False"]
    score: float
    """The probability of `label`."""

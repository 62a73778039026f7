"""A text of a picture: where it comes from, what the filters say of it, and whether it stays."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from blip_edge.evaluation.capfilt.recipe import Vote
from blip_edge.text import clean_caption

__all__ = ["Source", "Text", "judged", "unlike"]

Source = Literal["web", "synthetic"]
# Words that training reads of a caption; what differs only behind them is one text to it.
_WORDS = 50


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text of one picture, as it goes into `texts.jsonl`."""

    caption: str
    source: Source
    round: int
    model: str | None = None
    """sha256 of the captioner that wrote it; None of the web's."""
    beams: int | None = None
    top_p: float | None = None
    seed: int | None = None
    confidence: float | None = None
    """Geometric mean of its words' probabilities under the captioner that wrote it."""
    itm: float | None = None
    """Mean probability, over the filters, that it matches the picture; None: nobody was asked."""
    itc: float | None = None
    """Mean cosine of its embedding with the picture's."""
    votes: tuple[float, ...] = ()
    """Each filter's probability, when there are several."""
    kept: bool = True

    def to_json(self) -> dict[str, Any]:
        """The fields that are known."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The same back; other fields are passed over."""
        known = {key: values[key] for key in cls.__dataclass_fields__ if key in values}
        return cls(**{**known, "votes": tuple(known.get("votes", ()))})


def unlike(texts: Iterable[Text]) -> list[Text]:
    """The first of each kind: texts that training would read as one are one."""
    first: dict[str, Text] = {}
    for text in texts:
        first.setdefault(clean_caption(text.caption, _WORDS), text)
    return [text for key, text in first.items() if key]


def judged(
    text: Text,
    itm: Sequence[float],
    itc: Sequence[float],
    *,
    threshold: float,
    vote: Vote,
    min_itc: float = -1.0,
) -> Text:
    """`text` with the probabilities and cosines that filters, at least one, gave it.

    What was not kept before is not kept now.
    """
    mean, cosine = (sum(said) / len(said) for said in (itm, itc))
    for_it = sum(one >= threshold for one in itm)
    kept = {
        "mean": mean >= threshold,
        "majority": 2 * for_it > len(itm),
        "all": for_it == len(itm),
    }[vote]
    return replace(
        text,
        itm=round(mean, 6),
        itc=round(cosine, 6),
        votes=tuple(round(one, 6) for one in itm) if len(itm) > 1 else (),
        # Rounded, a cosine may be below -1.
        kept=text.kept and kept and max(-1.0, cosine) >= min_itc,
    )

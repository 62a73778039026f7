"""What bootstrapping may be told."""

from dataclasses import dataclass, fields
from typing import Literal

from blip_edge.errors import UsageError

__all__ = ["CapfiltRecipe", "RoundsRecipe", "Vote"]

Vote = Literal["mean", "majority", "all"]


@dataclass(frozen=True, kw_only=True)
class CapfiltRecipe:
    """New texts for pictures of the web, and which of all texts stay."""

    captions: int = 1
    """Texts that each captioner writes of a picture; equal ones count once."""
    beams: int = 0
    """0 draws words from the nucleus of `top_p`; more searches with so many beams, which writes
    safer texts that teach less (paper, table 2)."""
    top_p: float = 0.9
    """Share of the probability that words are drawn from (beams 0)."""
    threshold: float = 0.5
    """A text stays when the probability that it matches its picture is at least this."""
    min_itc: float = -1.0
    """And when the cosine of its embedding with the picture's (ITC), over all filters, is at least
    this; -1 asks nothing. For filters whose matching head learned little; where their cosines lie,
    `capfilt.json` shows."""
    min_confidence: float = 0.0
    """And a new one when the geometric mean of its words' probabilities, under the captioner that
    wrote it, is at least this. A filter of the same pre-training shares its captioner's mistakes,
    of which the captioner itself is less sure than of the rest."""
    vote: Vote = "mean"
    """What several filters together say: mean compares their mean probability with `threshold`; of
    majority and all more than half, or every one, must reach it."""
    round: int = 1
    """Which bootstrapping of the same pictures this is; it is noted with each text."""
    part: int = 256
    """Pictures that are done together when the input is a data set; a run that was killed begins
    again with the part it was at. Of tars each is a part."""
    max_bad: float = 0.01
    """Share of the pictures that may be unreadable before the run stops."""

    def __post_init__(self) -> None:
        if min(self.captions, self.round, self.part) < 1:
            raise UsageError("captions, round and part must be at least 1")
        if self.beams < 0 or 0 < self.beams < self.captions:
            raise UsageError(
                f"beams {self.beams} cannot write {self.captions} captions: give 0 to draw them, "
                "or as many beams"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not all(0 <= x <= 1 for x in (self.threshold, self.min_confidence, self.max_bad)):
            raise UsageError("threshold, min_confidence and max_bad are shares, 0 to 1")
        if not -1 <= self.min_itc <= 1:
            raise UsageError(f"min_itc is a cosine, -1 to 1, got {self.min_itc}")


@dataclass(frozen=True, kw_only=True)
class RoundsRecipe(CapfiltRecipe):
    """The same, and how often: what was left to others by the paper (section 6)."""

    rounds: int = 1
    """Bootstrappings, one after another. Before each but the first a model is pre-trained on what
    the one before left, and tuned on people's texts to write and to judge in the next."""
    pretrain: str = ""
    """Recipe of `train` for the model between two rounds."""
    caption: str = ""
    """Recipe of `train` that tunes it to write."""
    retrieval: str = ""
    """Recipe of `train` that tunes it to judge."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise UsageError(f"rounds must be at least 1, got {self.rounds}")
        missing = [key for key in ("pretrain", "caption", "retrieval") if not getattr(self, key)]
        if self.rounds > 1 and missing:
            raise UsageError(
                f"a model is trained between rounds: name recipes of train as {', '.join(missing)}"
            )

    def of_round(self, number: int) -> CapfiltRecipe:
        """What one bootstrapping is told; the first has number 0."""
        told = {each.name: getattr(self, each.name) for each in fields(CapfiltRecipe)}
        return CapfiltRecipe(**told | {"round": self.round + number})

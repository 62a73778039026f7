"""How captions are searched for: generation_config.json and a manifest's `decode`, typed.

Field names and meanings are those of Hugging Face's generation configuration; `prompt` is ours,
because BLIP's captioner starts from words ("a picture of ") that its own repository keeps in code.
"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from blip_edge.errors import ArtifactError, UsageError

__all__ = ["EarlyStopping", "Generation"]

EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Settings of greedy and beam search.

    Raises:
        UsageError: a value that no search can follow.
    """

    bos_token_id: int
    """[DEC]: the first token of every prompt."""
    eos_token_id: int
    """[SEP]: the token that ends a caption."""
    pad_token_id: int
    """What a finished row is fed while others go on."""
    num_beams: int = 3
    """1 is greedy search."""
    min_length: int = 5
    """Tokens, counting the prompt, before which no caption may end."""
    max_length: int = 20
    """Tokens, counting the prompt and the final [SEP], at which every caption ends."""
    length_penalty: float = 1.0
    """Captions are ranked by log-probability / generated tokens ** this: more favours longer."""
    early_stopping: EarlyStopping = False
    """True: stop once `num_beams` captions are complete. False: stop when no running beam can
    still beat them at its present length. "never": at any length."""
    repetition_penalty: float = 1.0
    """Above 1, a token that was used before is less likely to come again."""
    prompt: str = "a picture of "
    """Words that a caption starts from; they count for the lengths and are not part of its text."""

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise UsageError(f"num_beams must be at least 1, got {self.num_beams}")
        if self.max_length < 2:
            raise UsageError(f"max_length must be at least 2, got {self.max_length}")
        if self.min_length < 0:
            raise UsageError(f"min_length must not be negative, got {self.min_length}")
        if self.min_length > self.max_length:
            raise UsageError(
                f"min_length {self.min_length} is more than max_length {self.max_length}"
            )
        if not self.repetition_penalty > 0:
            raise UsageError(
                f"repetition_penalty must be more than 0, got {self.repetition_penalty}"
            )
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(f'early_stopping is true, false or "never", not {self.early_stopping}')

    def override(
        self,
        *,
        beams: int | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> "Generation":
        """The same settings with those that are given in place of its own."""
        return replace(
            self,
            num_beams=self.num_beams if beams is None else beams,
            min_length=self.min_length if min_length is None else min_length,
            max_length=self.max_length if max_length is None else max_length,
        )

    def to_json(self) -> dict[str, Any]:
        """All fields, in Hugging Face's words."""
        return asdict(self)

    @classmethod
    def from_json(cls, config: dict[str, Any], *, source: Path | str) -> "Generation":
        """Read generation_config.json or a manifest's `decode`; `source` is named in errors.

        Unknown keys are Hugging Face's other settings and are left alone; a key that is absent or
        null has its default here.

        Raises:
            ArtifactError: a token id is missing, or a value makes no sense.
        """
        if not isinstance(config, dict):
            raise ArtifactError(f"{source} does not hold decoding settings")
        known = {field.name for field in fields(cls)}
        given = {n: value for n, value in config.items() if n in known and value is not None}
        try:
            return cls(**{name: _typed(name, value) for name, value in given.items()})
        except TypeError as error:
            reason = str(error).replace("Generation.__init__()", "").strip()
            raise ArtifactError(f"{source}: decoding settings: {reason}") from None
        except UsageError as error:
            raise ArtifactError(f"{source}: {error}") from None


_INTEGERS = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "num_beams", "min_length", "max_length"}
)
_NUMBERS = frozenset({"length_penalty", "repetition_penalty"})


def _typed(name: str, value: Any) -> Any:
    if name in _INTEGERS and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if name in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, got {value!r}")
        return float(value)
    if name == "prompt" and not isinstance(value, str):
        raise TypeError(f"prompt must be text, got {value!r}")
    return value

"""How captions are searched for or drawn: generation_config.json and a manifest's `decode`, typed.

Field names and meanings are those of Hugging Face's generation configuration; `prompt` is ours,
because BLIP's captioner starts from words ("a picture of ") that its own repository keeps in code.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from blip_edge.errors import ArtifactError, UsageError

__all__ = ["EarlyStopping", "Generation"]

EarlyStopping = bool | Literal["never"]

_LARGEST_WEIGHT = 80.0
"""Logarithm of what a caption's score may be divided by; in single precision 88 is infinite."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Settings of greedy search, beam search and sampling.

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
    """1 is greedy search, or sampling."""
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
    """Above 1, a token that was used before is less likely to come again. BLIP's own sampling
    takes 1.1 whatever it is told; here sampling, too, goes by this."""
    do_sample: bool = False
    """Draw each token at random instead of searching; only with `num_beams` 1."""
    temperature: float = 1.0
    """Sampling: below 1 likely tokens are drawn more often, above 1 less."""
    top_k: int = 0
    """Sampling: how many of the likeliest tokens may be drawn, those that tie with the last of them
    included; 0 is all. Hugging Face takes 50 where a file says nothing, this takes all."""
    top_p: float = 1.0
    """Sampling: only the smallest set of likeliest tokens whose probability reaches this."""
    num_return_sequences: int = 1
    """Captions of each picture."""
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
        if not math.isfinite(self.length_penalty):
            raise UsageError(f"length_penalty must be finite, got {self.length_penalty}")
        if abs(self.length_penalty) * math.log(self.max_length) > _LARGEST_WEIGHT:
            raise UsageError(
                f"length_penalty {self.length_penalty} is too large for captions of "
                f"{self.max_length} tokens, whose scores would no longer differ"
            )
        if not 0 < self.repetition_penalty < math.inf:
            raise UsageError(
                f"repetition_penalty must be more than 0 and finite, got {self.repetition_penalty}"
            )
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise UsageError(f'early_stopping is true, false or "never", not {self.early_stopping}')
        self._check_sampling()
        self._check_sequences()

    def _check_sampling(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature must be more than 0 and finite, got {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top_k must not be negative, got {self.top_k}; 0 is all tokens")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be more than 0 and at most 1, got {self.top_p}")
        if self.do_sample and self.num_beams > 1:
            raise UsageError(f"do_sample goes with num_beams 1, not {self.num_beams}")

    def _check_sequences(self) -> None:
        if self.num_return_sequences < 1:
            raise UsageError(
                f"num_return_sequences must be at least 1, got {self.num_return_sequences}"
            )
        if not self.do_sample and self.num_return_sequences > self.num_beams:
            raise UsageError(
                f"num_return_sequences {self.num_return_sequences} is more than num_beams "
                f"{self.num_beams}: give more beams, or sample"
            )

    @property
    def rows(self) -> int:
        """Rows of one picture in a session: its beams, or when sampling its captions."""
        return self.num_return_sequences if self.do_sample else self.num_beams

    def override(
        self,
        *,
        beams: int | None = None,
        captions: int | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        early_stopping: EarlyStopping | None = None,
        repetition_penalty: float | None = None,
        sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        prompt: str | None = None,
    ) -> "Generation":
        """The same settings with those that are given in place of its own.

        Args:
            beams: `num_beams`. Sampling sets it to 1 where it is not given.
            captions: `num_return_sequences`.
            sample: `do_sample`.

        Raises:
            UsageError: values that do not make sense together, or a sampling setting without
                sampling, which would change nothing.
        """
        sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        given: dict[str, Any] = {
            "num_beams": 1 if sample and beams is None else beams,
            "num_return_sequences": captions,
            "min_length": min_length,
            "max_length": max_length,
            "length_penalty": length_penalty,
            "early_stopping": early_stopping,
            "repetition_penalty": repetition_penalty,
            "do_sample": sample,
            "prompt": prompt,
            **sampling,
        }
        changed = replace(self, **{n: value for n, value in given.items() if value is not None})
        useless = [name for name, value in sampling.items() if value is not None]
        if useless and not changed.do_sample:
            raise UsageError(f"{useless[0]} is for sampling; ask for sampling too")
        return changed

    def to_json(self) -> dict[str, Any]:
        """All fields, in Hugging Face's words; `top_k` only where it says something."""
        document = asdict(self)
        # Hugging Face's loader complains of any top_k but 50 beside do_sample false.
        if not self.do_sample and self.top_k == 0:
            del document["top_k"]
        return document

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
    {
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "num_beams",
        "min_length",
        "max_length",
        "top_k",
        "num_return_sequences",
    }
)
_NUMBERS = frozenset({"length_penalty", "repetition_penalty", "temperature", "top_p"})


def _typed(name: str, value: Any) -> Any:
    if name in _INTEGERS and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if name in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, got {value!r}")
        return float(value)
    if name == "do_sample" and not isinstance(value, bool):
        raise TypeError(f"do_sample must be true or false, got {value!r}")
    if name == "prompt" and not isinstance(value, str):
        raise TypeError(f"prompt must be text, got {value!r}")
    return value

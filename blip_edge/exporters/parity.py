"""How far a bundle is from the network that it was made of: one comparison for every target.

Everything here is numpy over the runtime's engine interface, so that torch and the bundle run
through the same lines, and a device can repeat what the export measured.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blip_edge.exporters.recipe import ExportRecipe, Precision
from blip_edge.runtime.engine import F32, I32, Captioner

__all__ = ["EXACT_DB", "Difference", "Forcing", "Gate", "compare", "forced_logits", "make_forcing"]

# R rows · T text tokens · V vocabulary
EXACT_DB = 200.0
"""What stands for the infinite signal to noise of equal arrays, which JSON cannot hold."""


@dataclass(frozen=True)
class Difference:
    """How two arrays differ."""

    max_abs_diff: float
    """Largest difference, as a share of the largest expected value where that is above 1."""
    psnr_db: float
    """10 log10 of the largest expected value squared over the mean squared difference."""

    def to_json(self) -> dict[str, float]:
        """Rounded to what a reader can use."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Gate:
    """What a difference may be at most: one of the two is set."""

    max_abs_diff: float | None = None
    psnr_db: float | None = None

    @classmethod
    def of(cls, precision: Precision, recipe: ExportRecipe) -> "Gate":
        """The gate that a recipe sets for a precision."""
        if recipe.palette_bits:
            return cls(psnr_db=recipe.palette_psnr)
        if precision == "fp32":
            return cls(max_abs_diff=recipe.max_abs_diff)
        return cls(psnr_db=recipe.fp16_psnr if precision == "fp16" else recipe.int8_psnr)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Gate":
        """Read a manifest's `gate`."""
        return cls(**{name: float(value) for name, value in values.items()})

    def to_json(self) -> dict[str, float]:
        """The limit that is set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def passes(self, difference: Difference) -> bool:
        """Whether `difference` is within the limit; one that is not a number is not."""
        if self.max_abs_diff is not None:
            return difference.max_abs_diff <= self.max_abs_diff
        return difference.psnr_db >= (self.psnr_db or 0.0)

    def explain(self, difference: Difference) -> str:
        """The measured number and the limit."""
        if self.max_abs_diff is not None:
            return f"max difference {difference.max_abs_diff:.2g} (at most {self.max_abs_diff:.2g})"
        return f"PSNR {difference.psnr_db:.1f} dB (at least {self.psnr_db:.1f})"


def compare(expected: F32, actual: F32) -> Difference:
    """The difference of `actual` from `expected`; another shape or a NaN differs infinitely."""
    if expected.shape != actual.shape or not np.isfinite(actual).all():
        return Difference(math.inf, -math.inf)
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    worst = float(np.abs(expected - actual).max(initial=0.0))
    peak = float(np.abs(expected).max(initial=0.0))
    noise = float(np.square(expected - actual).mean()) if expected.size else 0.0
    if noise == 0:
        return Difference(worst, EXACT_DB)
    psnr = 10 * math.log10(max(peak**2, np.finfo(np.float64).tiny) / noise)
    return Difference(worst / max(1.0, peak), min(psnr, EXACT_DB))


@dataclass(frozen=True)
class Forcing:
    """Tokens to put through a decoder, whatever it would say, and the reorderings between."""

    ids: I32
    """(R, T); the first `prompt` tokens are those of every row."""
    orders: I32
    """(T, R): at step t, row r continues row orders[t, r]."""
    prompt: int
    """Tokens that the first step takes at once."""


def make_forcing(prompt: tuple[int, ...], *, rows: int, tokens: int, vocabulary: int) -> Forcing:
    """Random words after `prompt`, rows changing places as beams do; the same at every call."""
    random = np.random.default_rng(0)
    ids = random.integers(0, vocabulary, (rows, tokens), dtype=np.int32)
    shared = prompt[: tokens - 1]
    ids[:, : len(shared)] = shared
    orders = random.integers(0, rows, (tokens, rows), dtype=np.int32)
    return Forcing(ids, orders, len(shared))


def forced_logits(engine: Captioner, cross: Any, forcing: Forcing) -> F32:
    """(T - prompt + 1, R, V) logits: after the prompt, and after each further token.

    Args:
        engine: torch's or a bundle's.
        cross: what `encode` or `ask` gave of one picture.
        forcing: what to feed.
    """
    rows, tokens = forcing.ids.shape
    session = engine.start(cross, rows)
    start = np.arange(rows, dtype=np.int32)
    logits = [session.step(forcing.ids[:, : forcing.prompt], start).copy()]
    for t in range(forcing.prompt, tokens):
        logits.append(session.step(forcing.ids[:, t : t + 1], forcing.orders[t]).copy())
    return np.stack(logits)

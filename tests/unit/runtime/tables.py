"""Decoders that are tables, so small that every sequence can be looked at, and what is known of
them."""

from itertools import product

import numpy as np
import pytest

from blip_edge.generation import Generation
from blip_edge.runtime.decoding import Hypothesis
from blip_edge.runtime.engine import F32, I32

EOS, PAD, BOS = 1, 0, 2
GENERATION = Generation(
    bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, min_length=0, max_length=6, prompt=""
)


class Table:
    """Logits by picture, place, last token and the token before it."""

    def __init__(self, seed: int, images: int, vocabulary: int, length: int = 12) -> None:
        random = np.random.default_rng(seed)
        shape = (images, length, vocabulary, vocabulary, vocabulary)
        self.values = random.normal(size=shape).astype(np.float32) * 2

    def logits(self, image: int, tokens: tuple[int, ...]) -> F32:
        before = tokens[-2] if len(tokens) > 1 else 0
        row: F32 = self.values[image, len(tokens), tokens[-1], before]
        return row

    def session(self, rows: int, images: list[int] | None = None) -> "TableSession":
        """A session of that many rows for each picture."""
        chosen = list(range(len(self.values))) if images is None else images
        return TableSession(self, [image for image in chosen for _ in range(rows)])

    def log_probs(self, image: int, tokens: tuple[int, ...], start: int) -> list[float]:
        """Of each token from `start` on, in float64."""
        found = []
        for n in range(start, len(tokens)):
            row = self.logits(image, tokens[:n]).astype(np.float64)
            found.append(float(row[tokens[n]] - np.log(np.exp(row).sum())))
        return found

    def log_probability(self, image: int, tokens: tuple[int, ...], start: int) -> float:
        """Sum over the tokens from `start` on, in float64."""
        return sum(self.log_probs(image, tokens, start))

    def rank(self, image: int, caption: tuple[int, ...], start: int, how: Generation) -> float:
        """What beam search ranks captions by, in float64: all penalties are in it."""
        total = 0.0
        for n, own in enumerate(self.log_probs(image, caption, start), start):
            total += own * how.repetition_penalty if caption[n] in caption[:n] else own
        return total / float((len(caption) - start) ** how.length_penalty)


class TableSession:
    """Also watches that the search asks as it may and leaves what it was given alone."""

    def __init__(self, table: Table, images: list[int]) -> None:
        self._table, self._images = table, images
        self._rows: list[tuple[int, ...]] = [()] * len(images)
        self.steps = 0
        self._given = self._kept = np.empty(0, dtype=np.float32)

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        assert len(input_ids) == len(beam_idx) == len(self._rows)
        assert input_ids.dtype == beam_idx.dtype == np.int32
        beams = len(self._images) // len(set(self._images))
        assert (beam_idx // beams == np.arange(len(beam_idx)) // beams).all()  # own picture only
        np.testing.assert_array_equal(self._given, self._kept)
        self.steps += 1
        self._rows = [
            self._rows[row] + tuple(new)
            for row, new in zip(beam_idx, input_ids.tolist(), strict=True)
        ]
        pairs = zip(self._images, self._rows, strict=True)
        self._given = np.stack([self._table.logits(image, row) for image, row in pairs])
        self._kept = self._given.copy()
        return self._given


def prompts(images: int, *ids: int) -> I32:
    """(B, T): the same for every picture."""
    return np.tile(np.asarray(ids or (BOS,), dtype=np.int32), (images, 1))


def every_caption(
    vocabulary: int, start: tuple[int, ...], how: Generation
) -> list[tuple[int, ...]]:
    """All token sequences that a search may return."""
    captions = []
    others = [token for token in range(vocabulary) if token != EOS]
    for length in range(how.max_length - len(start)):
        for words in product(others, repeat=length):
            if len(start) + length >= how.min_length:
                captions.append((*start, *words, EOS))
    return captions + [
        (*start, *words) for words in product(others, repeat=how.max_length - len(start))
    ]


def assert_rules(
    table: Table, image: int, found: Hypothesis, start: tuple[int, ...], how: Generation
) -> None:
    """That a caption begins, ends and is scored as it should."""
    tokens = found.token_ids
    assert tokens[: len(start)] == start
    assert EOS not in tokens[:-1]
    assert len(tokens) <= how.max_length
    assert tokens[-1] == EOS or len(tokens) == how.max_length
    assert tokens[-1] != EOS or len(tokens) - 1 >= how.min_length
    own = table.log_probs(image, tokens, len(start))  # penalties are not in it
    assert found.log_probs == pytest.approx(own, abs=1e-4)
    assert found.score == pytest.approx(sum(own) / len(own), abs=1e-4)

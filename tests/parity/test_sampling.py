"""What may be drawn, against the logits processors of `transformers` and its `generate`."""

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    MinLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from blip_edge.artifact import write_json
from blip_edge.generation import Generation
from blip_edge.runtime.engine import F32, I32
from blip_edge.runtime.rules import apply_rules
from blip_edge.runtime.sampling import distribution
from tests.parity.captioners import BOS, EOS, GENERATION, ours, tiny_blip

DRAWN = replace(GENERATION, num_beams=1, do_sample=True)
SETTINGS = [
    replace(DRAWN, repetition_penalty=penalty, min_length=shortest, temperature=heat, **kept)
    for penalty, shortest, heat in product((0.8, 1.0, 1.3), (0, 9), (0.5, 1.0, 1.7))
    for kept in ({}, {"top_k": 5}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.6}, {"top_p": 0.05})
]


def processors(how: Generation) -> list[Any]:
    """Those that `generate` would take, in its order."""
    found: list[Any] = []
    if how.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(how.repetition_penalty))
    if how.min_length:
        found.append(MinLengthLogitsProcessor(how.min_length, EOS))
    if how.temperature != 1:
        found.append(TemperatureLogitsWarper(how.temperature))
    if how.top_k:
        found.append(TopKLogitsWarper(how.top_k))
    if how.top_p < 1:
        found.append(TopPLogitsWarper(how.top_p))
    return found


def assert_same(logits: F32, used: I32, how: Generation, scores: torch.Tensor) -> None:
    """That (R, V) logits after (R, T) tokens are turned into what `scores` stand for."""
    found = distribution(apply_rules(logits, used, how, keep=True), how)
    np.testing.assert_array_equal(found > 0, scores.isfinite().numpy())
    np.testing.assert_allclose(found, scores.double().softmax(dim=-1).numpy(), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("vocabulary", [40, 3000])
def test_distributions_are_those_of_the_processors(vocabulary: int, scale: float) -> None:
    random = np.random.default_rng(vocabulary)
    for how in SETTINGS:
        logits = (random.normal(size=(6, vocabulary)) * scale).astype(np.float32)
        used = random.integers(0, vocabulary, size=(6, 7)).astype(np.int32)
        scores = torch.from_numpy(logits.copy())
        for processor in processors(how):
            scores = processor(torch.from_numpy(used).long(), scores)
        assert_same(logits, used, how, scores)


@pytest.mark.parametrize(
    "how",
    [
        DRAWN,
        replace(DRAWN, top_k=50, top_p=0.9, repetition_penalty=1.1, min_length=6),  # BLIP's own
        replace(DRAWN, temperature=0.7, top_k=6, top_p=0.8, repetition_penalty=1.5, min_length=9),
    ],
)
def test_generate_draws_by_the_same_distributions(how: Generation) -> None:
    """The order of all rules and filters, from what `generate` saw and made of it."""
    model = tiny_blip(2)
    output: Any = model.generate(
        pixel_values=torch.randn(6, 3, 32, 32),
        input_ids=torch.tensor([[BOS, 7, EOS]]).repeat(6, 1),
        do_sample=True,
        num_beams=1,
        min_length=how.min_length,
        max_length=how.max_length,
        repetition_penalty=how.repetition_penalty,
        temperature=how.temperature,
        top_k=how.top_k,
        top_p=how.top_p,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = output.sequences.numpy().astype(np.int32)
    assert len(output.logits) > 8
    for length, (logits, scores) in enumerate(zip(output.logits, output.scores, strict=True), 2):
        assert_same(logits.numpy(), tokens[:, :length], how, scores)


def test_first_tokens_come_as_often_as_transformers_says() -> None:
    """The whole way from pixels to drawn tokens."""
    model, pixels, count = tiny_blip(2), torch.randn(2, 3, 32, 32), 3000
    how = replace(DRAWN, num_return_sequences=count, max_length=2, top_k=10, top_p=0.9)
    drawn = ours(model, pixels, [BOS], how, seeds=(1, 2))
    with torch.no_grad():
        logits = model(pixel_values=pixels, input_ids=torch.full((2, 1), BOS)).logits[:, -1]
    for processor in processors(how):
        logits = processor(torch.full((2, 1), BOS), logits)
    for found, likely in zip(drawn, logits.softmax(dim=-1).tolist(), strict=True):
        seen = Counter(one.token_ids[1] for one in found)
        for token, probability in enumerate(likely):
            spread = (count * probability * (1 - probability)) ** 0.5
            assert abs(seen[token] - count * probability) <= 4 * spread


def test_a_batch_draws_what_single_pictures_draw() -> None:
    model, pixels = tiny_blip(0), torch.randn(8, 3, 32, 32)
    how = replace(DRAWN, num_return_sequences=2, top_p=0.9)
    together = ours(model, pixels, [BOS, 7], how, seeds=range(8))
    for n, several in enumerate(together):
        (alone,) = ours(model, pixels[n : n + 1], [BOS, 7], how, seeds=[n])
        for one, other in zip(several, alone, strict=True):
            assert one.token_ids == other.token_ids
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)  # other matrix sizes
    captions = [one.token_ids for several in together for one in several]
    assert len(set(captions)) > 12
    assert len({len(caption) for caption in captions}) > 4


@pytest.mark.parametrize(
    "how",
    [
        GENERATION,
        replace(GENERATION, num_beams=1),
        replace(GENERATION, num_return_sequences=3),
        replace(DRAWN, top_p=0.9, temperature=0.7, num_return_sequences=3),
    ],
)
def test_transformers_has_nothing_to_say_about_our_files(how: Generation, tmp_path: Path) -> None:
    write_json(tmp_path / "generation_config.json", how.to_json())
    read = GenerationConfig.from_pretrained(tmp_path)
    read.validate(strict=True)
    for name in ("do_sample", "num_beams", "num_return_sequences", "temperature", "top_p"):
        assert getattr(read, name) == getattr(how, name)
    assert read.top_k == (how.top_k if how.do_sample else None)

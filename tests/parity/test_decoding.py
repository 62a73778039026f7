"""Our greedy and beam search against `BlipForConditionalGeneration.generate`, token for token."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from blip_edge.generation import Generation
from tests.parity.captioners import BOS, EOS, GENERATION, ours, tiny_blip

IMAGES = 8
_Ids = tuple[int, ...]


def generate(model: Any, pixels: torch.Tensor, prompt: list[int], how: Generation) -> Any:
    """Their search, with everything that it can tell."""
    # generate() overwrites the first id with [DEC] and drops the last.
    ids = torch.tensor([[*prompt, EOS]]).repeat(len(pixels), 1)
    settings: dict[str, Any] = {
        "num_beams": how.num_beams,
        "num_return_sequences": how.num_return_sequences,
        "min_length": how.min_length,
        "max_length": how.max_length,
        "repetition_penalty": how.repetition_penalty,
        "do_sample": False,
        "output_scores": True,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    if how.num_beams > 1:
        settings |= {"length_penalty": how.length_penalty, "early_stopping": how.early_stopping}
    return model.generate(pixel_values=pixels, input_ids=ids, **settings)


def captions(output: Any, start: int, how: Generation) -> list[list[_Ids]]:
    """The ids of each picture's captions, without the padding after them."""
    found = [_cut(row, start) for row in output.sequences.tolist()]
    count = how.num_return_sequences
    return [found[first : first + count] for first in range(0, len(found), count)]


def _cut(row: list[int], start: int) -> _Ids:
    ends = [n for n, token in enumerate(row) if token == EOS and n >= start]
    return tuple(row[: ends[0] + 1] if ends else row)


def our_captions(
    model: Any, pixels: torch.Tensor, prompt: list[int], how: Generation
) -> list[list[_Ids]]:
    return [[one.token_ids for one in found] for found in ours(model, pixels, prompt, how)]


@pytest.fixture(scope="module")
def captioners() -> list[tuple[Any, torch.Tensor]]:
    made = []
    for seed in (0, 2):
        model = tiny_blip(seed)
        made.append((model, torch.randn(IMAGES, 3, 32, 32)))
    return made


Captioners = list[tuple[Any, torch.Tensor]]

BEAMS = [
    replace(GENERATION, num_beams=beams, length_penalty=length, early_stopping=stop)
    for beams, length, stop in product((2, 3, 4), (0.5, 1.0, 2.0), (False, True))
]
NEVER = [
    replace(GENERATION, num_beams=3, early_stopping="never", length_penalty=length)
    for length in (-1.0, 0.0, 0.5, 2.0)
]
RULES = [
    replace(GENERATION, num_beams=beams, min_length=shortest, repetition_penalty=penalty)
    for beams, shortest, penalty in product((1, 3), (0, 8), (1.0, 1.3))
]
SEVERAL = [
    replace(
        GENERATION,
        num_beams=beams,
        num_return_sequences=3,
        early_stopping=stop,
        repetition_penalty=penalty,
    )
    for beams, stop, penalty in product((3, 5), (False, True), (1.0, 1.3))
]


def name(how: Generation) -> str:
    return (
        f"beams{how.num_beams}-length{how.length_penalty}-stop{how.early_stopping}"
        f"-min{how.min_length}-repeat{how.repetition_penalty}-best{how.num_return_sequences}"
    )


@pytest.mark.parametrize("how", [*BEAMS, *NEVER, *RULES, *SEVERAL], ids=name)
def test_the_ids_are_those_of_transformers(captioners: Captioners, how: Generation) -> None:
    for (model, pixels), prompt in zip(captioners, ([BOS], [BOS, 7, 9]), strict=True):
        expected = captions(generate(model, pixels, prompt, how), len(prompt), how)
        assert our_captions(model, pixels, prompt, how) == expected


def test_fifty_captioners_say_what_they_say_in_transformers() -> None:
    greedy, said = replace(GENERATION, num_beams=1), set()
    for seed in range(100, 150):
        model = tiny_blip(seed)
        pixels = torch.randn(1 + seed % 2, 3, 32, 32)
        prompt = [BOS, 7] if seed % 3 else [BOS]
        for how in (greedy, GENERATION):
            found = our_captions(model, pixels, prompt, how)
            assert found == captions(generate(model, pixels, prompt, how), len(prompt), how)
            said |= {caption for (caption,) in found}
    assert len(said) > 100
    assert len({len(caption) for caption in said}) > 8


def test_the_captions_of_this_test_are_worth_comparing(captioners: Captioners) -> None:
    def said(how: Generation) -> list[_Ids]:
        pairs = [our_captions(model, pixels, [BOS], how) for model, pixels in captioners]
        return [found[0] for pair in pairs for found in pair]

    greedy, beams = said(replace(GENERATION, num_beams=1)), said(GENERATION)
    assert len(set(beams)) > 12
    assert len({len(caption) for caption in beams}) > 4
    assert sum(a != b for a, b in zip(greedy, beams, strict=True)) > 6
    for other in (
        replace(GENERATION, length_penalty=2.0),
        replace(GENERATION, early_stopping=True),
        replace(GENERATION, repetition_penalty=1.3),
        replace(GENERATION, min_length=8),
    ):
        assert said(other) != beams


@pytest.mark.parametrize("how", [GENERATION, replace(GENERATION, num_beams=1)], ids=name)
def test_a_batch_gives_what_single_pictures_give(captioners: Captioners, how: Generation) -> None:
    model, pixels = captioners[0]
    together = ours(model, pixels, [BOS, 7], how)
    for n, (one,) in enumerate(together):
        ((alone,),) = ours(model, pixels[n : n + 1], [BOS, 7], how)
        assert alone.token_ids == one.token_ids
        assert alone.log_probs == pytest.approx(one.log_probs, abs=1e-4)  # other matrix sizes


def test_scores_of_several_captions_are_those_of_transformers(captioners: Captioners) -> None:
    how = replace(GENERATION, num_beams=4, num_return_sequences=3)
    for model, pixels in captioners:
        output = generate(model, pixels, [BOS], how)
        found = [one for several in ours(model, pixels, [BOS], how) for one in several]
        assert [one.score for one in found] == pytest.approx(
            output.sequences_scores.tolist(), abs=1e-5
        )


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_log_probabilities_of_tokens_are_those_of_transformers(
    captioners: Captioners, beams: int, penalty: float
) -> None:
    """From the logits that `generate` saw, before any penalty."""
    how = replace(
        GENERATION,
        num_beams=beams,
        num_return_sequences=min(beams, 3),
        repetition_penalty=penalty,
        min_length=4,
    )
    model, pixels = captioners[1]
    output = generate(model, pixels, [BOS], how)
    beam_indices = output.beam_indices if beams > 1 else None
    scores = model.compute_transition_scores(
        output.sequences,
        tuple(logits.log_softmax(dim=-1) for logits in output.logits),
        beam_indices,
    )
    found = [one for several in ours(model, pixels, [BOS], how) for one in several]
    for row, one in zip(scores.tolist(), found, strict=True):
        assert list(one.log_probs) == pytest.approx(row[: len(one.log_probs)], abs=1e-4)

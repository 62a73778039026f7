"""Our greedy and beam search against `BlipForConditionalGeneration.generate`, token for token.

The networks are tiny and random, with weights large enough that captions differ from picture to
picture and end at different lengths; otherwise nearly any search would agree.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BlipConfig, BlipForConditionalGeneration

from blip_edge.generation import Generation
from blip_edge.runtime.decoding import Hypothesis, search
from blip_edge.runtime.engine import F32, I32

BOS, EOS, PAD, VOCABULARY = 38, 2, 0, 40
IMAGES = 8
GENERATION = Generation(
    bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, min_length=0, max_length=14, prompt=""
)


def tiny_blip(seed: int) -> Any:
    """A two-layer captioner whose captions vary."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = BlipConfig(
        text_config={
            **sizes,
            "vocab_size": VOCABULARY,
            "encoder_hidden_size": 32,
            "max_position_embeddings": 32,
            "bos_token_id": BOS,
            "sep_token_id": EOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
        },
        # The default range of the vision tower is 1e-10: every picture would look the same.
        vision_config={**sizes, "image_size": 32, "patch_size": 8, "initializer_range": 0.02},
        image_text_hidden_size=32,
    )
    model: Any = BlipForConditionalGeneration(config)
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.mul_(16 if "crossattention" in name else 8)
        # Captions must be able to end before max_length.
        model.text_decoder.cls.predictions.bias[EOS] = 1.0
    return model


class TorchSession:
    """The network without a cache: the whole text again at every step."""

    def __init__(self, model: Any, embeds: torch.Tensor) -> None:
        self._model, self._embeds = model, embeds  # embeds: (R, N, D)
        self._ids = torch.empty(len(embeds), 0, dtype=torch.long)

    @torch.no_grad()
    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        new = torch.from_numpy(input_ids).long()
        self._ids = torch.cat([self._ids[torch.from_numpy(beam_idx).long()], new], dim=1)
        output = self._model.text_decoder(
            input_ids=self._ids, encoder_hidden_states=self._embeds, is_decoder=True
        )
        logits: F32 = output.logits[:, -1].numpy()
        return logits


def ours(model: Any, pixels: torch.Tensor, prompt: list[int], how: Generation) -> list[Hypothesis]:
    with torch.no_grad():
        embeds = model.vision_model(pixel_values=pixels).last_hidden_state
    session = TorchSession(model, embeds.repeat_interleave(how.num_beams, dim=0))
    return search(session, np.tile(np.asarray(prompt, dtype=np.int32), (len(pixels), 1)), how)


def theirs(
    model: Any, pixels: torch.Tensor, prompt: list[int], how: Generation
) -> list[tuple[int, ...]]:
    # generate() overwrites the first id with [DEC] and drops the last.
    ids = torch.tensor([[*prompt, EOS]]).repeat(len(pixels), 1)
    settings: dict[str, Any] = {
        "num_beams": how.num_beams,
        "min_length": how.min_length,
        "max_length": how.max_length,
        "repetition_penalty": how.repetition_penalty,
        "do_sample": False,
    }
    if how.num_beams > 1:
        settings |= {"length_penalty": how.length_penalty, "early_stopping": how.early_stopping}
    rows = model.generate(pixel_values=pixels, input_ids=ids, **settings).tolist()
    return [_cut(row, len(prompt)) for row in rows]


def _cut(row: list[int], start: int) -> tuple[int, ...]:
    ends = [n for n, token in enumerate(row) if token == EOS and n >= start]
    return tuple(row[: ends[0] + 1] if ends else row)


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


def name(how: Generation) -> str:
    return (
        f"beams{how.num_beams}-length{how.length_penalty}-stop{how.early_stopping}"
        f"-min{how.min_length}-repeat{how.repetition_penalty}"
    )


@pytest.mark.parametrize("how", [*BEAMS, *NEVER, *RULES], ids=name)
def test_the_ids_are_those_of_transformers(captioners: Captioners, how: Generation) -> None:
    for (model, pixels), prompt in zip(captioners, ([BOS], [BOS, 7, 9]), strict=True):
        found = [hypothesis.token_ids for hypothesis in ours(model, pixels, prompt, how)]
        assert found == theirs(model, pixels, prompt, how)


def test_the_captions_of_this_test_are_worth_comparing(captioners: Captioners) -> None:
    def captions(how: Generation) -> list[tuple[int, ...]]:
        pairs = [ours(model, pixels, [BOS], how) for model, pixels in captioners]
        return [hypothesis.token_ids for pair in pairs for hypothesis in pair]

    greedy, beams = captions(replace(GENERATION, num_beams=1)), captions(GENERATION)
    assert len(set(beams)) > 12
    assert len({len(caption) for caption in beams}) > 4
    assert sum(a != b for a, b in zip(greedy, beams, strict=True)) > 6
    for other in (
        replace(GENERATION, length_penalty=2.0),
        replace(GENERATION, early_stopping=True),
        replace(GENERATION, repetition_penalty=1.3),
        replace(GENERATION, min_length=8),
    ):
        assert captions(other) != beams


@pytest.mark.parametrize("how", [GENERATION, replace(GENERATION, num_beams=1)], ids=name)
def test_a_batch_gives_what_single_pictures_give(captioners: Captioners, how: Generation) -> None:
    model, pixels = captioners[0]
    together = ours(model, pixels, [BOS, 7], how)
    for n, one in enumerate(together):
        (alone,) = ours(model, pixels[n : n + 1], [BOS, 7], how)
        assert alone.token_ids == one.token_ids
        assert alone.score == pytest.approx(one.score, abs=1e-5)  # float32, other matrix sizes


def test_scores_are_those_of_transformers(captioners: Captioners) -> None:
    model, pixels = captioners[1]
    output = model.generate(
        pixel_values=pixels,
        num_beams=3,
        max_length=14,
        min_length=0,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
    )
    found = [hypothesis.score for hypothesis in ours(model, pixels, [BOS], GENERATION)]
    assert found == pytest.approx(output.sequences_scores.tolist(), abs=1e-5)

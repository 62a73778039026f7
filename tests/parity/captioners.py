"""Hugging Face's captioner, tiny and random, and our search over it.

Its weights are large enough that captions differ from picture to picture and end at different
lengths; otherwise nearly any search would agree.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BlipConfig, BlipForConditionalGeneration

from blip_edge.generation import Generation
from blip_edge.runtime.decoding import Hypothesis, search
from blip_edge.runtime.engine import F32, I32

BOS, EOS, PAD, VOCABULARY = 38, 2, 0, 40
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


def session(model: Any, pixels: torch.Tensor, rows: int) -> TorchSession:
    """(B, 3, S, S) pictures, as a session of that many rows for each."""
    with torch.no_grad():
        embeds = model.vision_model(pixel_values=pixels).last_hidden_state
    return TorchSession(model, embeds.repeat_interleave(rows, dim=0))


def ours(
    model: Any,
    pixels: torch.Tensor,
    prompt: list[int],
    how: Generation,
    *,
    seeds: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """Our search over their network."""
    prompts = np.tile(np.asarray(prompt, dtype=np.int32), (len(pixels), 1))
    generators = [np.random.default_rng(seed) for seed in seeds]
    return search(session(model, pixels, how.rows), prompts, how, generators=generators)

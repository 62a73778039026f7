"""The parts of a `transformers` BLIP that `cpu_exported.py` exports, each with plain inputs."""

from typing import Any

import torch
from torch import Tensor, nn


class Vision(nn.Module):
    """(B, 3, S, S) to the image's states (B, N, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixel_values: Tensor) -> Tensor:
        states: Tensor = self.vision(pixel_values=pixel_values)[0]
        return states


class Encoder(nn.Module):
    """(R, T) texts that are read with states (R, N, D), to their own states (R, T, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.text_encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor) -> Tensor:
        read: Tensor = self.encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=states,
            encoder_attention_mask=torch.ones_like(states[:, :, 0]),
        )[0]
        return read


class Matcher(nn.Module):
    """(R, T) texts that are read with states (R, N, D), to (R, 2) logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(model), model.itm_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(input_ids, attention_mask, states)[:, 0])
        return logits


class Embedder(nn.Module):
    """(R, T) texts to unit vectors (R, E)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.project = model.text_encoder, model.text_proj

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        read = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return nn.functional.normalize(self.project(read[:, 0]), dim=-1)


class Decoder(nn.Module):
    """One step: (R, T) tokens, the rows (R,) that they continue, what they read (R, N, D), and the
    cache of their own keys and values, each (R, H, P, K), to logits (R, V) after the last token and
    the longer cache."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.text_decoder

    def forward(
        self, input_ids: Tensor, beam_idx: Tensor, states: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        from transformers import DynamicCache, EncoderDecoderCache

        own = DynamicCache()
        for layer, (key, value) in enumerate(zip(past[::2], past[1::2], strict=True)):
            own.update(key[beam_idx], value[beam_idx], layer)
        cache = EncoderDecoderCache(own, DynamicCache())
        out = self.decoder(
            input_ids=input_ids,
            encoder_hidden_states=states,
            past_key_values=cache,
            use_cache=True,
        )
        present = (part for layer in own.layers for part in (layer.keys, layer.values))
        return (out.logits[:, -1], *present)

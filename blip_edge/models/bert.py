"""The text tower: BLIP's multimodal mixture of encoder and decoder, built on BERT.

One stack of layers serves as unimodal text encoder (no cross-attention), image-grounded encoder
and image-grounded decoder (causal); which one is chosen by the call, not by the module. Cross-
attention keys and values are computed once per image by `cross` and passed in, never recomputed
at a token. There are no token-type embeddings. Module names are Hugging Face's.
Source: BLIP paper (arXiv 2201.12086) section 3.1.
"""

# B images · R rows = B x beams · T text tokens · P past tokens · N image tokens · D width
# H heads · K width of a head · V vocabulary

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.attention import (
    Cross,
    CrossAttention,
    Residual,
    SelfAttention,
    TwinCross,
    TwinCrossAttention,
    causal_mask,
)
from blip_edge.models.config import TextConfig

__all__ = ["TextDecoder", "TextLayer", "TextModel", "WordProduct"]


class TextModel(nn.Module):
    """(B, T) ids to (B, T, D) hidden states; a twin looks at two pictures at once."""

    def __init__(self, config: TextConfig, *, twin: bool = False) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config, twin=twin)

    @property
    def blocks(self) -> "list[TextLayer]":
        """The layers, first to last."""
        return cast("list[TextLayer]", list(self.encoder.layer))

    def cross(self, image_tokens: Tensor, mask: Tensor | None = None) -> list[Cross]:
        """Each layer's cross-attention keys and values of (B, N, W) image tokens.

        `mask` is additive, (B, 1, 1, N), where not every token counts.
        """
        return [layer.crossattention.project(image_tokens, mask) for layer in self.blocks]

    def twin_cross(self, left: Tensor, right: Tensor) -> list[TwinCross]:
        """A twin's keys and values of the left and of the right pictures' tokens."""
        return [layer.crossattention.project(left, right) for layer in self.blocks]

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor | None = None,
        cross: Sequence[Cross | Tensor] | Sequence[TwinCross] | None = None,
        past: list[tuple[Tensor, Tensor]] | None = None,
        hidden_states: list[Tensor] | None = None,
        maps: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Hidden states, and each layer's self-attention cache, (R, H, P + T, K) twice.

        `mask` is additive and broadcasts to (R, H, T, P + T). Without `cross` the layers skip
        cross-attention. With B images in `cross`, rows are B x beams, an image's beams adjacent;
        with the images' tokens (B, N, W) themselves in it there is one text an image.
        Each layer's output is appended to `hidden_states`, and the shares (B, H, beams · T, N) of
        its cross-attention to `maps`, when they are given.
        """
        start = 0 if past is None else past[0][0].shape[2]
        x = self.embeddings(input_ids, start)
        present = []
        for number, layer in enumerate(self.blocks):
            x, cache = layer(
                x,
                mask,
                None if cross is None else cross[number],
                None if past is None else past[number],
                maps,
            )
            present.append(cache)
            if hidden_states is not None:
                hidden_states.append(x)
        return x, present


class _Embeddings(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, start: int) -> Tensor:
        end = start + input_ids.shape[1]
        positions = self.position_embeddings.weight[start:end]
        out: Tensor = self.dropout(self.LayerNorm(self.word_embeddings(input_ids) + positions))
        return out


class _Encoder(nn.Module):
    def __init__(self, config: TextConfig, *, twin: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            TextLayer(config, number, twin=twin) for number in range(config.num_hidden_layers)
        )


class TextLayer(nn.Module):
    """One post-norm block: self-attention, cross-attention when asked for, feed-forward."""

    def __init__(self, config: TextConfig, number: int, *, twin: bool) -> None:
        super().__init__()
        cross_heads, ffn_width = config.cross_heads[number], config.ffn_widths[number]
        self.attention = SelfAttention(config, config.heads[number])
        self.crossattention: Any = (  # either kind, and few callers care which
            TwinCrossAttention(config, cross_heads, merges=number >= config.merge_from_layer)
            if twin
            else CrossAttention(config, cross_heads)
        )
        self.intermediate = _Dense(config.hidden_size, ffn_width)
        self.output = Residual(config, ffn_width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cross: Cross | Tensor | TwinCross | None,
        past: tuple[Tensor, Tensor] | None,
        maps: list[Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, present = self.attention(x, mask, past)
        if cross is not None:
            x = self.crossattention(x, cross, maps)
        return self.output(F.gelu(self.intermediate.dense(x)), x), present


class _Dense(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)


class TextDecoder(nn.Module):
    """The text tower as a language model: a head whose matrix is the word embedding's."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.bert = TextModel(config)
        self.cls = _Head(config)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, D) hidden states to (…, V) logits."""
        out: Tensor = self.cls.predictions(hidden, self.bert.embeddings.word_embeddings.weight)
        return out

    def forward(
        self,
        input_ids: Tensor,
        cross: Sequence[Cross],
        past: list[tuple[Tensor, Tensor]] | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (R, T, V) of every position, causal, and the cache for the next call.

        Padding must be on the right: a real token then never sees one.
        """
        start = 0 if past is None else past[0][0].shape[2]
        mask = causal_mask(input_ids.shape[1], start, input_ids.device)
        hidden, present = self.bert(input_ids, mask, cross, past, hidden_states)
        return self.logits(hidden), present


class _Head(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.predictions = _Predictions(config)


class _Predictions(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.decoder = WordProduct()
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.transform(hidden), words, self.bias)
        return out


class WordProduct(nn.Module):
    """The head's matrix product: (…, D) with the (V, D) word table, which is the embedding's."""

    def forward(self, hidden: Tensor, words: Tensor, bias: Tensor | None) -> Tensor:
        """(…, V) logits."""
        return F.linear(hidden, words, bias)


class _Transform(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(F.gelu(self.dense(hidden)))
        return out

"""The text tower: BLIP's multimodal mixture of encoder and decoder, built on BERT.

One stack of layers serves as unimodal text encoder (no cross-attention), image-grounded encoder
and image-grounded decoder (causal); which one is chosen by the call, not by the module. Cross-
attention keys and values are computed once per image by `cross` and passed in, never recomputed
at a token. There are no token-type embeddings. Module names are Hugging Face's.
Source: BLIP paper (arXiv 2201.12086) section 3.1.
"""

# B images · R rows = B x beams · T text tokens · P past tokens · N image tokens · D width
# H heads · K width of a head · V vocabulary

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.config import TextConfig

__all__ = [
    "MASKED",
    "Cross",
    "TextDecoder",
    "TextLayer",
    "TextModel",
    "causal_mask",
    "padding_mask",
]

# Finite, because half precision turns -inf and finfo.min into NaN on several devices.
MASKED = -1e4


class Cross(NamedTuple):
    """What one layer's cross-attention knows of the images: key (B, H, K, N), value (B, H, N, K).

    The key is stored transposed, as the product with the query reads it.
    """

    key: Tensor
    value: Tensor


def padding_mask(attention_mask: Tensor) -> Tensor:
    """(B, T) ones and zeros to an additive (B, 1, 1, T) mask."""
    return (1.0 - attention_mask[:, None, None, :].float()) * MASKED


def causal_mask(tokens: int, past: int, device: torch.device) -> Tensor:
    """Additive (1, 1, T, P + T) mask: a token sees the past, itself and what came before it."""
    row = torch.arange(past, past + tokens, device=device)[:, None]
    column = torch.arange(past + tokens, device=device)[None, :]
    return torch.where(column <= row, 0.0, MASKED)[None, None]


class TextModel(nn.Module):
    """(B, T) ids to (B, T, D) hidden states."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    @property
    def blocks(self) -> "list[TextLayer]":
        """The layers, first to last."""
        return cast("list[TextLayer]", list(self.encoder.layer))

    def cross(self, image_tokens: Tensor) -> list[Cross]:
        """Each layer's cross-attention keys and values of (B, N, D) image tokens."""
        return [layer.crossattention.project(image_tokens) for layer in self.blocks]

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor | None = None,
        cross: list[Cross] | None = None,
        past: list[tuple[Tensor, Tensor]] | None = None,
        hidden_states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Hidden states, and each layer's self-attention cache, (R, H, P + T, K) twice.

        `mask` is additive and broadcasts to (R, H, T, P + T). Without `cross` the layers skip
        cross-attention. With B images in `cross`, rows are B x beams, an image's beams adjacent.
        Each layer's output is appended to `hidden_states` when it is given.
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
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        widths = zip(config.heads, config.cross_heads, config.ffn_widths, strict=True)
        self.layer = nn.ModuleList(TextLayer(config, *sizes) for sizes in widths)


class TextLayer(nn.Module):
    """One post-norm block: self-attention, cross-attention when asked for, feed-forward."""

    def __init__(self, config: TextConfig, heads: int, cross_heads: int, ffn_width: int) -> None:
        super().__init__()
        self.attention = _SelfAttention(config, heads, config.hidden_size)
        self.crossattention = _CrossAttention(config, cross_heads, config.encoder_hidden_size)
        self.intermediate = _Dense(config.hidden_size, ffn_width)
        self.output = _Residual(config, ffn_width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cross: Cross | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, present = self.attention(x, mask, past)
        if cross is not None:
            x = self.crossattention(x, cross)
        return self.output(F.gelu(self.intermediate.dense(x)), x), present


class _Attention(nn.Module):
    """The weights that both attentions have, under Hugging Face's names."""

    def __init__(self, config: TextConfig, heads: int, source_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, config.head_width
        self.dropout = config.attention_probs_dropout_prob
        inner = heads * self.head_width
        self.self = _Projections(config.hidden_size, source_width, inner)
        self.output = _Residual(config, inner)

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, self.head_width))
        return heads.transpose(1, 2)  # (B, H, T, K)


class _SelfAttention(_Attention):
    def forward(
        self, x: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q = self._split(self.self.query(x))
        k, v = self._split(self.self.key(x)), self._split(self.self.value(x))  # (R, H, T, K)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        dropout = self.dropout if self.training else 0.0
        if mask is not None:
            mask = mask.to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.output(y.transpose(1, 2).flatten(2), x), (k, v)


class _CrossAttention(_Attention):
    def project(self, image_tokens: Tensor) -> Cross:
        key = self.self.key(image_tokens).unflatten(-1, (self.heads, self.head_width))
        return Cross(key.permute(0, 2, 3, 1), self._split(self.self.value(image_tokens)))

    def forward(self, x: Tensor, cross: Cross) -> Tensor:
        rows, tokens, _ = x.shape
        images = cross.key.shape[0]
        # An image's beams become one longer query: keys and values are read once, not copied.
        q = self.self.query(x).reshape(images, -1, self.heads, self.head_width).transpose(1, 2)
        scores = (q * self.head_width**-0.5) @ cross.key  # (B, H, beams x T, N)
        shares = F.dropout(scores.softmax(-1), self.dropout, self.training)
        y = (shares @ cross.value).transpose(1, 2).reshape(rows, tokens, -1)
        out: Tensor = self.output(y, x)
        return out


class _Projections(nn.Module):
    def __init__(self, width: int, source_width: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(source_width, inner)
        self.value = nn.Linear(source_width, inner)


class _Dense(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)


class _Residual(nn.Module):
    """Post-norm: LayerNorm(dropout(dense(y)) + x)."""

    def __init__(self, config: TextConfig, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(self.dense(y)) + x)
        return out


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
        cross: list[Cross],
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
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        return F.linear(self.transform(hidden), embedding, self.bias)


class _Transform(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(F.gelu(self.dense(hidden)))
        return out

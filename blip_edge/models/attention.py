"""The text tower's attention: to its own tokens, to one picture, and to two at once.

Keys and values of pictures are computed once by `project` and passed in, never recomputed at a
token. Module names are Hugging Face's; those of the twin, which Hugging Face does not have, are
the released NLVR2 model's (`self0`, `self1`, `dense0`, `dense1`, `merge_layer`).
"""

# B images · R rows = B x beams · T text tokens · P past tokens · N image tokens · D width
# H heads · K width of a head · W width of image tokens

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.config import TextConfig
from blip_edge.models.sdpa import attend

__all__ = [
    "MASKED",
    "Cross",
    "CrossAttention",
    "Residual",
    "SelfAttention",
    "TwinCross",
    "TwinCrossAttention",
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
    mask: Tensor | None = None
    """Additive, broadcasts to (B, H, T, N); None where every token counts."""

    def rows(self, index: Tensor) -> "Cross":
        """The images of (R,) `index`, in that order, each as often as it is named."""
        mask = None if self.mask is None else self.mask[index]
        return Cross(self.key[index], self.value[index], mask)


class TwinCross(NamedTuple):
    """What one layer knows of the left and of the right pictures."""

    left: Cross
    right: Cross


def padding_mask(attention_mask: Tensor) -> Tensor:
    """(B, T) ones and zeros to an additive (B, 1, 1, T) mask."""
    return (1.0 - attention_mask[:, None, None, :].float()) * MASKED


def causal_mask(tokens: int, past: int, device: torch.device) -> Tensor:
    """Additive (1, 1, T, P + T) mask: a token sees the past, itself and what came before it."""
    row = torch.arange(past, past + tokens, device=device)[:, None]
    column = torch.arange(past + tokens, device=device)[None, :]
    return torch.where(column <= row, 0.0, MASKED)[None, None]


class Residual(nn.Module):
    """Post-norm: LayerNorm(dropout(dense(y)) + x)."""

    def __init__(self, config: TextConfig, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(self.dense(y)) + x)
        return out


class _Projections(nn.Module):
    def __init__(self, width: int, source_width: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(source_width, inner)
        self.value = nn.Linear(source_width, inner)


class _Attention(nn.Module):
    def __init__(self, config: TextConfig, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, config.head_width
        self.dropout = config.attention_probs_dropout_prob
        self.inner = heads * self.head_width

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, self.head_width))
        return heads.transpose(1, 2)  # (B, H, T, K)


class SelfAttention(_Attention):
    """Tokens of a text to each other, with the past's keys and values in a cache."""

    def __init__(self, config: TextConfig, heads: int) -> None:
        super().__init__(config, heads)
        self.self = _Projections(config.hidden_size, config.hidden_size, self.inner)
        self.output = Residual(config, self.inner)

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
        y = attend(q, k, v, mask, dropout)
        return self.output(y.transpose(1, 2).flatten(2), x), (k, v)


class _PictureAttention(_Attention):
    def _project(self, projections: _Projections, tokens: Tensor, mask: Tensor | None) -> Cross:
        key = projections.key(tokens).unflatten(-1, (self.heads, self.head_width))
        return Cross(key.permute(0, 2, 3, 1), self._split(projections.value(tokens)), mask)

    def _look(
        self, projections: _Projections, x: Tensor, cross: Cross, maps: list[Tensor] | None
    ) -> Tensor:
        """What each of (R, T, D) tokens sees, (R, T, H · K)."""
        rows, tokens, _ = x.shape
        images = cross.key.shape[0]
        # Scaled before the heads are apart: ONNX Runtime would join a scale beside the product to
        # it, and has no kernel for one row that scales.
        q = projections.query(x) * self.head_width**-0.5
        # An image's beams become one longer query: keys and values are read once, not copied.
        q = q.reshape(images, -1, self.heads, self.head_width).transpose(1, 2)
        scores = q @ cross.key  # (B, H, beams x T, N)
        if cross.mask is not None:
            scores = scores + cross.mask.to(scores.dtype)
        shares = scores.softmax(-1)
        if maps is not None:
            maps.append(shares)
        shares = F.dropout(shares, self.dropout, self.training)
        return (shares @ cross.value).transpose(1, 2).reshape(rows, tokens, -1)


class CrossAttention(_PictureAttention):
    """Tokens of texts to a picture's tokens, or to a question's."""

    def __init__(self, config: TextConfig, heads: int) -> None:
        super().__init__(config, heads)
        self.self = _Projections(config.hidden_size, config.encoder_hidden_size, self.inner)
        self.output = Residual(config, self.inner)

    def project(self, tokens: Tensor, mask: Tensor | None = None) -> Cross:
        """Keys and values of (B, N, W) `tokens`; `mask` is additive."""
        return self._project(self.self, tokens, mask)

    def forward(self, x: Tensor, cross: Cross | Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """(R, T, D) tokens that have looked; (B, H, beams · T, N) shares are appended to `maps`.

        In place of keys and values `cross` may be the (B, N, W) tokens themselves, with one text
        each, where a text is read once: see `_glance`.
        """
        if isinstance(cross, Tensor) and not self._glances(x.shape[1], cross.shape[1]):
            cross = self.project(cross)
        if isinstance(cross, Tensor):
            seen = self._glance(x, cross, maps)
        else:
            seen = self._look(self.self, x, cross, maps)
        out: Tensor = self.output(seen, x)
        return out

    def _glances(self, words: int, tokens: int) -> bool:
        """Whether `_glance` multiplies less, and may read the weights itself."""
        plain = type(self.self.key) is type(self.self.value) is nn.Linear
        return plain and words * (tokens + self.head_width) < tokens * self.head_width

    def _glance(self, x: Tensor, tokens: Tensor, maps: list[Tensor] | None) -> Tensor:
        """`_look` at (B, N, W) tokens, their projections moved to the few tokens that look.

        q (c Wᵀ + b)ᵀ = (q W) cᵀ + q b for keys, and p (c Wᵀ + b) = (p c) Wᵀ + b for values, as the
        shares p of a token add up to 1 (under dropout: on average).
        """
        size, rows = (self.heads, self.head_width), (self.heads, x.shape[1])
        key, value = self.self.key, self.self.value
        q = self.self.query(x).unflatten(-1, size) * self.head_width**-0.5  # (B, T, H, K)
        near = torch.einsum("bthk,hkw->bhtw", q, key.weight.unflatten(0, size))
        # Changes no share, but a weight that is in no gradient would stop parallel training.
        level = torch.einsum("bthk,hk->bht", q, key.bias.unflatten(0, size))
        scores = near.flatten(1, 2) @ tokens.transpose(1, 2) + level.flatten(1)[:, :, None]
        shares = scores.softmax(-1)  # (B, H · T, N)
        if maps is not None:
            maps.append(shares.unflatten(1, rows))
        shares = F.dropout(shares, self.dropout, self.training)
        seen = (shares @ tokens).unflatten(1, rows)  # (B, H, T, W)
        seen = torch.einsum("bhtw,hkw->bthk", seen, value.weight.unflatten(0, size))
        return seen.flatten(2) + value.bias


class TwinCrossAttention(_PictureAttention):
    """Tokens of texts to two pictures: averaged in the first layers, merged by a matrix above."""

    def __init__(self, config: TextConfig, heads: int, *, merges: bool) -> None:
        super().__init__(config, heads)
        self.self0 = _Projections(config.hidden_size, config.encoder_hidden_size, self.inner)
        self.self1 = _Projections(config.hidden_size, config.encoder_hidden_size, self.inner)
        self.output = _TwinResidual(config, self.inner, merges=merges)

    def project(self, left: Tensor, right: Tensor) -> TwinCross:
        """Keys and values of the left and the right pictures' tokens, (B, N, W) each."""
        return TwinCross(
            self._project(self.self0, left, None), self._project(self.self1, right, None)
        )

    def forward(self, x: Tensor, cross: TwinCross, maps: list[Tensor] | None = None) -> Tensor:
        """(R, T, D) tokens that have looked at both; the left map is appended before the right."""
        seen = [
            self._look(projections, x, side, maps)
            for projections, side in zip((self.self0, self.self1), cross, strict=True)
        ]
        out: Tensor = self.output(seen, x)
        return out


class _TwinResidual(nn.Module):
    def __init__(self, config: TextConfig, inner: int, *, merges: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.dense0 = nn.Linear(inner, width)
        self.dense1 = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.merge_layer = nn.Linear(2 * width, width) if merges else None

    def forward(self, seen: Sequence[Tensor], x: Tensor) -> Tensor:
        left, right = self.dense0(seen[0]), self.dense1(seen[1])
        if self.merge_layer is None:
            both = (left + right) / 2
        else:
            both = self.merge_layer(torch.cat([left, right], dim=-1))
        out: Tensor = self.LayerNorm(self.dropout(both) + x)
        return out

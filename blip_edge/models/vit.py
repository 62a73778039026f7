"""The image tower: a plain pre-norm Vision Transformer with per-layer head counts and FFN widths.

Module names are those of Hugging Face's BLIP, so a state dict needs no translation. All image
tokens come out, or those that layers leave which merge some; there is no pooling and no head.
Source: BLIP paper (arXiv 2201.12086) section 3.1 and appendix; ViT (arXiv 2010.11929).
"""

# B images · N tokens: patches + 1, or what is left · D width · H heads · K width of a head
# S image side

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.models.config import VisionConfig
from blip_edge.models.sdpa import attend
from blip_edge.models.token_merging import attention_bias, merge_tokens

__all__ = ["VisionLayer", "VisionModel", "interpolate_positions", "sine_positions"]


class VisionModel(nn.Module):
    """(B, 3, S, S) pixels to (B, N, D) image tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @property
    def blocks(self) -> "list[VisionLayer]":
        """The layers, first to last."""
        return cast("list[VisionLayer]", list(self.encoder.layers))

    def forward(self, pixel_values: Tensor, hidden_states: list[Tensor] | None = None) -> Tensor:
        """Image tokens; each layer's output is appended to `hidden_states` when it is given."""
        x, sizes = self.embeddings(pixel_values), None
        for layer in self.blocks:
            x, sizes = layer(x, sizes)
            if hidden_states is not None:
                hidden_states.append(x)
        out: Tensor = self.post_layernorm(x)
        return out


class _Embeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.position_embedding = nn.Parameter(torch.empty(1, config.num_tokens, width))

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)  # (B, N - 1, D)
        start = self.class_embedding.expand(patches.shape[0], -1, -1)
        return torch.cat([start, patches], dim=1) + self.position_embedding


class _Encoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            VisionLayer(config, number) for number in range(config.num_hidden_layers)
        )


class VisionLayer(nn.Module):
    """One pre-norm block, which may merge tokens between its two branches."""

    def __init__(self, config: VisionConfig, number: int) -> None:
        super().__init__()
        self.self_attn = _Attention(config, config.heads[number])
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _FeedForward(config.hidden_size, config.ffn_widths[number])
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.drop_path = config.drop_path_rate * number / max(1, config.num_hidden_layers - 1)
        before, after = (config.num_tokens, *config.layer_tokens)[number : number + 2]
        self.merged = before - after

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) tokens, and the patches (B, N, 1) that each stands for; None: one each."""
        x, sizes = self._attended(x, sizes)
        return x + self._dropped(self.mlp(self.layer_norm2(x))), sizes

    def _attended(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        branch, keys = self.self_attn(self.layer_norm1(x), sizes)
        x = x + self._dropped(branch)
        return merge_tokens(x, sizes, keys.mean(1), self.merged) if self.merged else (x, sizes)

    def _dropped(self, branch: Tensor) -> Tensor:
        """Stochastic depth (arXiv 1603.09382): a picture's whole branch, or none of it."""
        if not self.training or self.drop_path == 0.0:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop_path
        return branch * kept.to(branch.dtype) / (1.0 - self.drop_path)


class _Attention(nn.Module):
    def __init__(self, config: VisionConfig, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, config.head_width
        self.dropout = config.attention_dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * heads * self.head_width)
        self.projection = nn.Linear(heads * self.head_width, config.hidden_size)

    def forward(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is attended to (B, N, D), and the keys (B, H, N, K)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_width))  # (B, N, 3, H, K)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 x (B, H, N, K)
        dropout = self.dropout if self.training else 0.0
        mask = None if sizes is None else attention_bias(sizes).to(q.dtype)
        y = attend(q, k, v, mask, dropout)
        # Without heads there are no keys, and tokens are alike that look alike.
        return self.projection(y.transpose(1, 2).flatten(2)), k if self.heads else x[:, None]


class _FeedForward(nn.Module):
    def __init__(self, width: int, ffn_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ffn_width)
        self.fc2 = nn.Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def interpolate_positions(positions: Tensor, num_tokens: int) -> Tensor:
    """(1, N, D) position embeddings for another number of image tokens.

    The class token's stays; the others are resized as a square grid, bicubic, corners not aligned,
    as BLIP's loader does.

    Raises:
        ArtifactError: either grid is not square.
    """
    if positions.shape[1] == num_tokens:
        return positions
    old, new = (round((n - 1) ** 0.5) for n in (positions.shape[1], num_tokens))
    if old**2 + 1 != positions.shape[1] or new**2 + 1 != num_tokens:
        raise ArtifactError(
            f"position embeddings for {positions.shape[1]} tokens cannot be resized to "
            f"{num_tokens}: both must be a square grid and a class token"
        )
    start, grid = positions[:, :1], positions[:, 1:]
    grid = grid.unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, D, old, old)
    grid = F.interpolate(grid.float(), size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([start, grid.flatten(2).transpose(1, 2).to(start)], dim=1)


def sine_positions(config: VisionConfig) -> Tensor:
    """(1, N, D) position embeddings: sines and cosines of a patch's row and column.

    A quarter of the width each for sin(row · w), cos(row · w), sin(column · w), cos(column · w),
    with w falling geometrically from 1 to 1/10000; zeros for the class token and for what is left
    over when the width is no multiple of 4.
    """
    side, quarter = config.image_size // config.patch_size, config.hidden_size // 4
    waves = 10_000.0 ** -(torch.arange(quarter) / max(1, quarter - 1))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.flatten()[:, None] * waves for place in (row, column)]  # (N - 1, D / 4) twice
    grid = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=-1)
    return F.pad(grid, (0, config.hidden_size - grid.shape[-1], 1, 0))[None]

"""Token Merging: a layer leaves fewer image tokens than it got, by averaging those that are alike.

Bipartite soft matching (Bolya et al., "Token Merging: Your ViT But Faster", arXiv 2210.09461,
section 3): tokens are split in turn into sources and targets; each source finds the target whose
key is most like its own; the sources that are most like their target are merged into it. A token
counts for as many patches as it stands for, in the average and in attention. The class token stays
as it is. How many are merged is known beforehand, so that all shapes are fixed, and nothing is
used that a runtime on a device lacks: rows are gathered, and summed by a product.
"""

# B images · N tokens · D width · K width of a head · S sources (N - 1) // 2 · G targets N // 2
# M merged

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attention_bias", "merge_tokens"]


def attention_bias(sizes: Tensor) -> Tensor:
    """(B, 1, 1, N) log of (B, N, 1) sizes, which attention adds to its scores.

    So a key weighs as much as the patches that it stands for would ("proportional attention",
    equation 1).
    """
    return sizes.log().transpose(1, 2)[:, None]


def merge_tokens(
    x: Tensor, sizes: Tensor | None, keys: Tensor, merged: int
) -> tuple[Tensor, Tensor]:
    """(B, N - M, D) tokens and their sizes, of (B, N, D) tokens that begin with the class token.

    After the class token come the sources that stay, and then all targets, each in their order.

    Args:
        x: tokens.
        sizes: (B, N, 1) patches that each stands for; None where each stands for one.
        keys: (B, N, K), whose cosine is how much alike two tokens are.
        merged: M, from 1 to S.
    """
    if sizes is None:
        sizes = torch.ones_like(x[..., :1])
    stay, go, target = _match(keys, merged)
    places = torch.arange(x.shape[1] // 2, dtype=target.dtype, device=x.device)
    chosen = (target[:, None] == places[:, None]).to(x.dtype)  # (B, G, M)
    gained = chosen * _rows(sizes[:, 2::2], go).transpose(1, 2)
    total = sizes[:, 1::2] + gained.sum(-1, keepdim=True)  # (B, G, 1)
    # Shares, and not sums that are divided: those may not fit into half precision.
    averaged = x[:, 1::2] * (sizes[:, 1::2] / total) + (gained / total) @ _rows(x[:, 2::2], go)
    if stay is None:
        return torch.cat([x[:, :1], averaged], dim=1), torch.cat([sizes[:, :1], total], dim=1)
    return (
        torch.cat([x[:, :1], _rows(x[:, 2::2], stay), averaged], dim=1),
        torch.cat([sizes[:, :1], _rows(sizes[:, 2::2], stay), total], dim=1),
    )


def _match(keys: Tensor, merged: int) -> tuple[Tensor | None, Tensor, Tensor]:
    """Sources that stay (B, S - M), sources that go (B, M), and the target of each of these."""
    directions = F.normalize(keys.detach(), dim=-1)
    likeness = directions[:, 2::2] @ directions[:, 1::2].transpose(1, 2)  # (B, S, G)
    best, target = likeness.max(dim=-1)
    sources = best.shape[1]
    order = best.topk(sources, dim=-1).indices  # the most alike first
    go, stay = order[:, :merged], order[:, merged:]
    target = target.gather(1, go)
    if merged == sources:  # runtimes have no tensors of nothing
        return None, go, target
    # In the order of their places, as the next layer takes neighbours for source and target.
    return stay.topk(sources - merged, dim=-1, largest=False).values, go, target


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """(B, M, D) rows of (B, S, D): whole rows of one table, which runtimes copy fastest."""
    images, tokens = x.shape[:2]
    starts = torch.arange(images, dtype=index.dtype, device=index.device) * tokens
    flat = (index + starts[:, None]).flatten()
    rows: Tensor = x.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape)
    return rows

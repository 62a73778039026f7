"""What the attention of both towers comes down to: shares of the keys, and the values by them."""

# B images or rows · H heads · T queries · N keys · K width of a head

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend"]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(q kᵀ / sqrt(K) + mask) v, (B, H, T, K), of k and v (B, H, N, K).

    `mask` broadcasts to (B, H, T, N). A share of `dropout` of the weights is silenced.
    """
    # The processor's fused kernel computes gradients of bfloat16 at half the speed of two products.
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.requires_grad:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, T, N)
        shares = (scores if mask is None else scores + mask).softmax(-1)
        return F.dropout(shares, dropout) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

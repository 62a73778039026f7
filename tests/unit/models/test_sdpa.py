"""Attention's inner product: whichever road it takes, the numbers are those of the formula."""

import pytest
import torch
from torch import Tensor

from blip_edge.models.attention import causal_mask
from blip_edge.models.sdpa import attend

# Eight bits of mantissa, through two products.
HALF = 3e-2


def by_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    shares: Tensor = (scores if mask is None else scores + mask).softmax(-1)
    return shares @ v


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_values_and_gradients_in_both_precisions(dtype: torch.dtype, causal: bool) -> None:
    inputs = [torch.randn(2, 3, 5, 8) for _ in range(3)]
    mask = causal_mask(5, 0, torch.device("cpu")) if causal else None
    exact = [x.clone().requires_grad_() for x in inputs]
    want = by_formula(exact[0], exact[1], exact[2], mask)
    q, k, v = (x.to(dtype).requires_grad_() for x in inputs)
    got = attend(q, k, v, None if mask is None else mask.to(dtype), 0.0)
    assert got.dtype == dtype
    close = 1e-5 if dtype == torch.float32 else HALF
    torch.testing.assert_close(got.float(), want, rtol=close, atol=close)
    want.sum().backward()
    got.sum().backward()
    for ours, theirs in zip((q, k, v), exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_silences_shares(dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(2, 3, 5, 8, dtype=dtype).requires_grad_() for _ in range(3))
    once, again = attend(q, k, v, None, 0.5), attend(q, k, v, None, 0.5)
    assert not torch.equal(once, again)

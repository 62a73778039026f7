"""Functions of torch as operators of ONNX, where torch's own translation costs a runtime time.

ONNX Runtime joins x · (1 + erf(x / √2)) · ½ to one Gelu in this order only. Of every attention
torch's translation makes a dozen operators that read sizes and put them together, to turn keys of
any rank; here they have four axes.
"""

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch

from blip_edge.errors import import_extra

__all__ = ["translations"]


def translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """By torch's function, what builds it: `torch.onnx.export(custom_translation_table=…)`.

    Raises:
        MissingExtraError: onnxscript is not installed.
    """
    op = getattr(import_extra("onnxscript", "onnx"), f"opset{opset}")

    def gelu(x: Any, approximate: str = "none") -> Any:
        one_and_error = op.Add(op.Erf(op.Div(x, sqrt(2.0))), 1.0)
        return op.Mul(op.Mul(x, one_and_error), 0.5)

    def attention(
        query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, **how: Any
    ) -> Any:
        assert not dropout_p and not any(how.values()), "graphs have no other attention"
        keys = op.Transpose(key, perm=[0, 1, 3, 2])
        scores = op.MatMul(op.Mul(query, query.shape[-1] ** -0.5), keys)
        shares = op.Softmax(scores if attn_mask is None else op.Add(scores, attn_mask), axis=-1)
        return op.MatMul(shares, value)

    ops = torch.ops.aten
    return {ops.gelu.default: gelu, ops.scaled_dot_product_attention.default: attention}

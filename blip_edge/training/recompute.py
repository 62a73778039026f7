"""Gradient checkpointing: a layer keeps its input alone, and is computed again when it is needed.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from blip_edge.models.bert import TextLayer
from blip_edge.models.vit import VisionLayer

__all__ = ["recomputing"]


@contextmanager
def recomputing(model: nn.Module, *, on: bool = True) -> Iterator[None]:
    """Inside, all layers of both towers of `model` are recomputed; dropout is drawn as before."""
    kinds = (VisionLayer, TextLayer)
    layers = [m for m in model.modules() if isinstance(m, kinds)] if on else []
    # On the instance, so that names of weights and copies made before are what they were.
    before = [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer in layers:
        layer.forward = _forgetful(layer.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, forward in before:
            if forward is None:
                del layer.forward
            else:  # a compiled one
                layer.forward = forward  # type: ignore[method-assign]


def _forgetful(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def recomputed(*args: Any, **how: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **how)
        return checkpoint(forward, *args, use_reentrant=False, **how)

    return recomputed

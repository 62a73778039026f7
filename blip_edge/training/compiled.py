"""torch.compile of the layers that a step spends its time in.

Layers alone, because whatever is around them (wrong partners, labels, queues) depends on values;
and layers of one shape share what was compiled.
"""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from blip_edge.errors import UsageError
from blip_edge.models.bert import TextLayer
from blip_edge.models.vit import VisionLayer

__all__ = ["compiled", "require_compiler"]


@contextmanager
def compiled(*parts: object, on: bool = True) -> Iterator[None]:
    """Inside, all layers of both towers in `parts` are compiled when they are first run.

    What is computed is the same but for the order of sums; dropout is drawn otherwise.
    """
    modules = [m for part in parts if isinstance(part, nn.Module) for m in part.modules()]
    layers = {m for m in modules if isinstance(m, (VisionLayer, TextLayer))} if on else set()
    for layer in layers:
        # On the instance, so that names of weights and copies made before are what they were.
        layer.forward = torch.compile(layer.forward)  # type: ignore[method-assign, assignment]
    try:
        with warnings.catch_warnings():
            # Tracing looks at gradients that tensors between layers do not have.
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
            yield
    finally:
        for layer in layers:
            del layer.forward


def require_compiler(device: torch.device) -> None:
    """What is computed on the processor is compiled as C++.

    Raises:
        UsageError: there is no compiler.
    """
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    if device.type == "cpu" and not any(shutil.which(name) for name in names if name):
        raise UsageError(
            "compile=true needs a C++ compiler (g++ or clang++) and there is none; install one or "
            "leave compile out"
        )

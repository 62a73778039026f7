"""Graphs to ExecuTorch programs (.pte), lowered to XNNPACK: Arm and x86 processors, phones first.

Free sizes stay free up to bounds, which ExecuTorch plans its memory by. What XNNPACK has no kernel
for (look-ups, layer norms, the reordering of rows) runs on ExecuTorch's portable ones.
"""

# R rows = B x beams · Q rows of the step before · T text tokens · P past tokens
# N tokens that cross-attention reads · H heads · K width of a head

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from blip_edge.errors import import_extra
from blip_edge.exporters.graphs import DecoderGraph, Graph
from blip_edge.models.blip import Blip
from blip_edge.quiet import quiet

__all__ = ["BoundedDecoderGraph", "write_executorch"]


class BoundedDecoderGraph(DecoderGraph):
    """A decoder whose R and Q go up to `rows`, and whose P + T goes up to `length`."""

    def __init__(self, blip: Blip, *, rows: int, length: int) -> None:
        super().__init__(blip)
        self.rows, self.length = rows, length


def write_executorch(graph: Graph, path: Path, *, bounds: Mapping[str, int]) -> None:
    """Write `graph` to the file `path`, which ends in .pte.

    Args:
        graph: in float32.
        path: where to.
        bounds: largest value of every free size, none below what graphs are traced with.

    Raises:
        MissingExtraError: executorch is not installed.
    """
    with quiet():
        lower = import_extra("executorch.exir", "executorch").to_edge_transform_and_lower
        xnnpack = import_extra(
            "executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch"
        )
        # The past alone may be empty: it is before the first step.
        sizes = {n: torch.export.Dim(n, min=int(n != "P"), max=most) for n, most in bounds.items()}
        program = torch.export.export(
            graph.eval(), graph.examples(), dynamic_shapes=graph.dynamic_shapes(sizes)
        )
        attention = torch.ops.aten.scaled_dot_product_attention.default
        program = program.run_decompositions({attention: _two_products})
        edge = lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        path.write_bytes(edge.to_executorch().buffer)


def _two_products(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Attention (B, H, T, K) without the guard for rows that are masked everywhere.

    Ours never are, masks being finite, and XNNPACK has no kernels for that guard.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    shares: Tensor = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
    return shares @ v

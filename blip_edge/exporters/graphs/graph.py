"""What every graph has: tensors with names and declared shapes, and a share of Blip's layers.

The declaration beside each forward is the only place where names and shapes are written: dynamic
axes, example inputs, the manifest and the checks are read off it.
"""

# B images · R rows = B x beams · Q rows of the step before · T text tokens · P past tokens
# N tokens that cross-attention reads · H heads · K width of a head

import inspect
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from blip_edge.models.attention import Cross
from blip_edge.models.bert import TextModel
from blip_edge.models.blip import Blip
from blip_edge.models.config import TextConfig
from blip_edge.models.quantized import QuantizedLayer
from blip_edge.runtime.manifest import LayerCache, Port

__all__ = [
    "Graph",
    "cache_layers",
    "cross_ports",
    "flat",
    "paired",
    "projections",
    "text_ports",
]

# What a free size is given while a graph is traced: none is 0 or 1, which tracing takes for a
# constant, and those that are free of each other differ.
_TRACED = {"R": 2, "Q": 3, "T": 3, "P": 2, "N": 5}


class Graph(Blip):
    """A Blip that has only the parts it runs, between tensors with names and declared shapes.

    Args:
        blip: whose layers these are.
        parts: names of the modules that the graph holds.
        used: those inside them that it runs.
        without: those inside `used` that another graph runs.
    """

    name: str
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    notes: tuple[str, ...] = ()
    """What whoever runs the graph should know."""
    facts: Mapping[str, str] = {}
    """What its file says beside that, where the target's files can."""

    def __init__(
        self,
        blip: Blip,
        parts: Iterable[str],
        used: Iterable[nn.Module],
        without: Iterable[nn.Module] = (),
    ) -> None:
        nn.Module.__init__(self)
        self.config = blip.config
        for part in parts:
            setattr(self, part, getattr(blip, part))
        run = _all_in(used) - _all_in(without)
        everything = blip.named_modules(remove_duplicate=False)  # towers may share layers
        self._paths = frozenset(path for path, module in everything if module in run)

    def runs(self, path: str) -> bool:
        """Whether the layer at `path` in Blip is part of this graph."""
        return path in self._paths

    def int8_layers(self) -> dict[str, QuantizedLayer]:
        """The layers with integers for weights that this graph runs, by path."""
        return {
            path: module
            for path, module in self.named_modules()
            if isinstance(module, QuantizedLayer) and self.runs(path)
        }

    def examples(self, sizes: Mapping[str, int] = _TRACED, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, free sizes as given, in declared order."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for port in self.inputs.values():
            shape = [sizes[size] if isinstance(size, str) else size for size in port.shape]
            if port.dtype == "float32":
                made.append(torch.randn(shape, generator=generator))
            else:
                made.append(torch.zeros(shape, dtype=torch.int32))
        return tuple(made)

    def dynamic_shapes(self, sizes: Mapping[str, object]) -> tuple[object, ...]:
        """`sizes` of every input's free axes, in the nesting of `forward`'s arguments."""
        free = [
            {axis: sizes[size] for axis, size in enumerate(port.shape) if isinstance(size, str)}
            for port in self.inputs.values()
        ]
        kinds = [one.kind for one in inspect.signature(self.forward).parameters.values()]
        named = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return tuple(free) if named == len(free) else (*free[:named], tuple(free[named:]))


def _all_in(modules: Iterable[nn.Module]) -> set[nn.Module]:
    return {part for module in modules for part in module.modules()}


def cache_layers(blip: Blip) -> list[LayerCache]:
    """Heads and head widths of each decoder layer; none where nothing is decoded."""
    if not blip.config.parts.decoder:
        return []
    text = blip.config.text_config
    heads = zip(text.heads, text.cross_heads, strict=True)
    return [LayerCache(own, cross, text.head_width) for own, cross in heads]


def projections(tower: TextModel) -> list[nn.Module]:
    """What makes keys and values of pictures, or of questions: read once, not at every token."""
    return [
        projection
        for layer in tower.blocks
        for name, pair in layer.crossattention.named_children()
        if name.startswith("self")
        for projection in (pair.key, pair.value)
    ]


def text_ports(rows: int | str) -> dict[str, Port]:
    """Texts as a text tower reads them."""
    return {
        "input_ids": Port((rows, "T"), "int32"),
        "attention_mask": Port((rows, "T"), "int32"),
    }


def cross_ports(text: TextConfig, prefix: str, tokens: int | str) -> dict[str, Port]:
    """{prefix}_key_i (1, H, K, N) and {prefix}_value_i (1, H, N, K) of each layer i in turn."""
    ports = {}
    for number, heads in enumerate(text.cross_heads):
        ports[f"{prefix}_key_{number}"] = Port((1, heads, text.head_width, tokens), "float32")
        ports[f"{prefix}_value_{number}"] = Port((1, heads, tokens, text.head_width), "float32")
    return ports


def flat(cross: Iterable[Cross]) -> tuple[Tensor, ...]:
    """Keys and values in the order of `cross_ports`."""
    return tuple(tensor for layer in cross for tensor in (layer.key, layer.value))


def paired(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Keys with their values again."""
    return list(zip(tensors[::2], tensors[1::2], strict=True))

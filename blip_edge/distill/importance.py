"""How much each head, neuron and channel matters.

Silencing a unit takes its columns out of the matrices that read it. To first order the loss then
changes by |sum(weight · gradient)| over those columns (Taylor: Molchanov et al., arXiv 1906.10771);
the squares of that sum, added over batches, are the diagonal of the empirical Fisher information
along the same direction (Theis et al., arXiv 1801.05787); the length of the columns asks no data.
One backward pass per batch scores every unit of the model.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from blip_edge.distill.axes import axes_of, reads
from blip_edge.models.blip import Blip
from blip_edge.models.config import BlipConfig

__all__ = ["Criterion", "Importance", "measure"]

Criterion = Literal["taylor", "fisher", "magnitude"]


@dataclass(frozen=True)
class Importance:
    """Scores by units: `vision` and `text` (D,) channels, `vision.3.heads` (H,), …"""

    scores: dict[str, Tensor]

    def layer(self, tower: str, number: int) -> float:
        """Of a whole layer: what its attention and its neurons add up to."""
        kinds = ("heads", "cross_heads", "neurons")
        found = [self.scores.get(f"{tower}.{number}.{kind}") for kind in kinds]
        return float(sum(score.sum() for score in found if score is not None))


def measure(
    blip: Blip,
    loss: Callable[[Any], Tensor],
    batches: Iterable[Any],
    criterion: Criterion = "taylor",
) -> Importance:
    """Score the units of `blip` by what `loss` would lose on `batches`."""
    readers = _readers(blip)
    sums = {label: torch.zeros(size) for label, (_, size) in readers.items()}
    if criterion == "magnitude":
        for label, (matrices, _) in readers.items():
            for matrix in matrices:
                sums[label] += _columns(matrix.detach().square(), len(sums[label]))
        return Importance(_per_unit(blip.config, {k: v.sqrt() for k, v in sums.items()}))
    found: dict[str, Tensor] = {}
    for batch in batches:
        blip.zero_grad(set_to_none=True)
        loss(batch).backward()
        for label, (matrices, size) in readers.items():
            change = torch.zeros(size)
            for matrix in matrices:
                if matrix.grad is not None:
                    change += _columns((matrix * matrix.grad).detach(), size)
            sums[label] = change
        for label, change in _per_unit(blip.config, sums).items():
            score = change.abs() if criterion == "taylor" else change.square()
            found[label] = found.get(label, 0.0) + score
    blip.zero_grad(set_to_none=True)
    return Importance(found)


def _readers(blip: Blip) -> dict[str, tuple[list[nn.Parameter], int]]:
    """By units: the matrices that read them, and how many columns they have."""
    readers: dict[str, tuple[list[nn.Parameter], int]] = {}
    for name, parameter in blip.named_parameters():
        label = reads(name, axes_of(blip.config, name))
        if label is None or not parameter.requires_grad:
            continue
        columns = parameter.shape[1]
        if label == "text.twice":
            label, columns = "text", columns // 2
        readers.setdefault(label, ([], columns))[0].append(parameter)
    return readers


def _columns(values: Tensor, size: int) -> Tensor:
    """Sums over rows, (size,); of a matrix that reads two streams side by side, over both."""
    sums: Tensor = values.sum(0).unflatten(0, (values.shape[1] // max(1, size), size)).sum(0)
    return sums


def _per_unit(config: BlipConfig, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Channels of heads to heads; channels and neurons are units themselves."""
    widths = {"vision": config.vision_config.head_width, "text": config.text_config.head_width}
    return {
        label: values.unflatten(0, (-1, widths[label.split(".")[0]])).sum(-1)
        if label.endswith("heads")
        else values
        for label, values in columns.items()
    }

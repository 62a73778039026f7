"""What is cut first: all units of a model in one order, by what they matter for what they cost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from blip_edge.distill.importance import Importance
from blip_edge.distill.meters import Meter
from blip_edge.distill.surgery import Keep, LayerKeep, kept_config
from blip_edge.errors import UsageError
from blip_edge.models.config import BlipConfig

__all__ = ["choose", "choose_evenly"]

BLOCK = 8
"""Kernels work on blocks of channels; an odd width costs as much as the next multiple."""
_CLEARLY = 1.01
"""Scores are estimates: what is not larger by so much is not larger."""


class _Block(NamedTuple):
    """Units that go together."""

    worth: float
    """What they matter for what they cost."""
    label: str
    """As in `Importance`; a whole layer's is `vision.3` or `text.0`."""
    units: tuple[int, ...]


@dataclass
class _Left:
    """What is left while blocks go, by label."""

    units: dict[str, set[int]]
    layers: dict[str, set[int]]

    def keep(self, config: BlipConfig) -> Keep:
        towers = {
            tower: {
                number: LayerKeep(
                    *(
                        sorted(self.units.get(f"{tower}.{number}.{kind}", ()))
                        for kind in ("heads", "cross_heads", "neurons")
                    )
                )
                for number in sorted(self.layers[tower])
            }
            for tower in ("vision", "text")
        }
        return Keep(
            vision=towers["vision"],
            text=towers["text"],
            vision_channels=self._channels("vision", config.vision_config.hidden_size),
            text_channels=self._channels("text", config.text_config.hidden_size),
        )

    def _channels(self, label: str, size: int) -> list[int] | None:
        kept = sorted(self.units[label])
        return None if len(kept) == size else kept

    def worth(self, importance: Importance) -> float:
        """What all that is left matters; of a layer that is gone nothing is."""
        total = 0.0
        for label, units in self.units.items():
            tower, _, rest = label.partition(".")
            if not rest or int(rest.partition(".")[0]) in self.layers[tower]:
                total += float(importance.scores[label][sorted(units)].sum())
        return total

    def without(self, block: _Block) -> None:
        """Let a block go if something of its kind stays."""
        tower, _, rest = block.label.partition(".")
        number = rest.partition(".")[0]
        if number and int(number) not in self.layers[tower]:
            return
        if block.units:
            if len(self.units[block.label]) > len(block.units):
                self.units[block.label] -= set(block.units)
        elif len(self.layers[tower]) > 1:
            self.layers[tower].discard(int(number))


def choose(
    config: BlipConfig, importance: Importance, meter: Meter, target: float, *, widths: bool
) -> Keep:
    """Keep what matters most for what it costs, down to `target` on the meter.

    Heads, blocks of 8 neurons, of 8 channels where `widths` says so, and whole layers stand in one
    row. What a block costs is a meter's difference: between the model, and one with half of the
    blocks of that kind. Every layer that stays has a head of each attention and a block of neurons.

    A layer is a large step: where one leads below `target`, what still fits comes back, and going
    on with smaller steps instead is tried, too, which counts if it keeps clearly more that matters.

    Raises:
        UsageError: so little does not make a model.
    """
    blocks = sorted(_blocks(config, importance, meter, widths=widths))

    def enough(gone: Sequence[_Block]) -> bool:
        return _cost(config, importance, gone, meter) <= target

    def shortest(blocks: list[_Block]) -> list[_Block]:
        return blocks[: _fewest(len(blocks), lambda count: enough(blocks[:count]))]

    first = shortest(blocks)
    if not enough(first):
        least = _cost(config, importance, first, meter)
        raise UsageError(
            f"what has to stay costs {least / target:.2f} times what is wanted; raise keep"
        )
    left = _after(config, importance, _less(first, enough))
    units = [block for block in blocks[len(first) :] if block.units]
    without = shortest([*first[:-1], *units])
    if enough(without):
        finer = _after(config, importance, _less(without, enough))
        if finer.worth(importance) > _CLEARLY * left.worth(importance):
            left = finer
    return left.keep(config)


def _fewest(most: int, enough: Callable[[int], bool]) -> int:
    """The least number up to `most` that is enough, or `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _less(gone: Sequence[_Block], enough: Callable[[Sequence[_Block]], bool]) -> list[_Block]:
    """Those of `gone`, which stand in order, that are enough: what matters most comes back first.

    Where a block has no room, none of its kind has. Layers stay away, and what matters nothing.
    """
    rest = [block for block in gone if block.units and block.worth]
    stay = [block for block in gone if not block.units or not block.worth]

    def enough_with(count: int) -> bool:
        return enough(sorted([*stay, *rest[:count]]))

    while still := _fewest(len(rest), enough_with):
        label = rest[still - 1].label
        stay += [block for block in rest[:still] if block.label == label]
        rest = [block for block in rest[:still] if block.label != label]
    return sorted(stay)


def choose_evenly(
    config: BlipConfig, importance: Importance, meter: Meter, target: float, *, widths: bool
) -> Keep:
    """Keep the same share of every layer, the most of it that `target` on the meter allows.

    With `widths` towers become narrower by whole heads, and by about the same share of neurons;
    without it neurons alone go. Either way every layer has as many, and heads fill the width.

    Raises:
        UsageError: so little does not make a model.
    """
    towers = (config.vision_config, config.text_config)
    most = min(min(tower.heads) for tower in towers)
    found = []
    for heads in range(1, most + 1) if widths else [most]:
        share, high = 0, 100  # percent of neurons, the most that fit beside so many heads
        while share < high:
            middle = (share + high + 1) // 2
            keep = _even(config, importance, heads / most, middle / 100)
            if meter(kept_config(config, keep)) <= target:
                share = middle
            else:
                high = middle - 1
        if share:
            found.append((abs(heads / most - share / 100), -share, heads))
    if not found:
        more = "" if widths else ", or set widths=true"
        raise UsageError(f"no even cut is small enough; raise keep{more}")
    _, share, heads = min(found)
    return _even(config, importance, heads / most, -share / 100)


def _even(config: BlipConfig, importance: Importance, heads: float, neurons: float) -> Keep:
    """These shares of heads, with the channels that they fill, and of neurons."""
    layers: dict[str, dict[int, LayerKeep]] = {}
    channels: dict[str, list[int] | None] = {}
    for tower, sizes in (("vision", config.vision_config), ("text", config.text_config)):
        there = min(sizes.heads + getattr(sizes, "cross_heads", ()))
        count, neurons_there = max(1, round(heads * there)), min(sizes.ffn_widths)
        scores = {
            (number, kind): importance.scores.get(f"{tower}.{number}.{kind}")
            for number in range(sizes.num_hidden_layers)
            for kind in ("heads", "cross_heads", "neurons")
        }
        layers[tower] = {
            number: LayerKeep(
                _top(scores[number, "heads"], count),
                _top(scores[number, "cross_heads"], count),
                _top(scores[number, "neurons"], _blocked(neurons * neurons_there)),
            )
            for number in range(sizes.num_hidden_layers)
        }
        width = count * sizes.head_width
        narrow = width < sizes.hidden_size and heads < 1
        channels[tower] = _top(importance.scores[tower], width) if narrow else None
    return Keep(layers["vision"], layers["text"], channels["vision"], channels["text"])


def _blocks(
    config: BlipConfig, importance: Importance, meter: Meter, *, widths: bool
) -> Iterator[_Block]:
    for label, scores in importance.scores.items():
        tower, _, rest = label.partition(".")
        if not rest and not widths:
            continue
        size = 1 if label.endswith("heads") else BLOCK
        groups = [
            tuple(group) for group in _chunks(scores.argsort().tolist(), size) if len(group) == size
        ]
        if len(groups) < 2:
            continue
        some = groups[: len(groups) // 2]
        cost = _saved(config, importance, meter, [_Block(0, label, group) for group in some])
        for group in groups:
            worth = float(scores[list(group)].sum()) * len(some) / max(cost, 1e-12)
            yield _Block(worth, label, group)
    for tower, count in (
        ("vision", config.vision_config.num_hidden_layers),
        ("text", config.text_config.num_hidden_layers),
    ):
        for number in range(count if count > 1 else 0):
            block = _Block(0, f"{tower}.{number}", ())
            cost = _saved(config, importance, meter, [block])
            yield block._replace(worth=importance.layer(tower, number) / max(cost, 1e-12))


def _saved(
    config: BlipConfig, importance: Importance, meter: Meter, blocks: Sequence[_Block]
) -> float:
    return meter(config) - _cost(config, importance, blocks, meter)


def _cost(
    config: BlipConfig, importance: Importance, blocks: Sequence[_Block], meter: Meter
) -> float:
    return meter(kept_config(config, _after(config, importance, blocks).keep(config)))


def _after(config: BlipConfig, importance: Importance, blocks: Sequence[_Block]) -> _Left:
    left = _Left(
        {label: set(range(len(scores))) for label, scores in importance.scores.items()},
        {
            "vision": set(range(config.vision_config.num_hidden_layers)),
            "text": set(range(config.text_config.num_hidden_layers)),
        },
    )
    for block in blocks:
        left.without(block)
    return left


def _chunks(units: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(units), size):
        yield units[start : start + size]


def _blocked(count: float) -> int:
    return max(BLOCK, round(count / BLOCK) * BLOCK)


def _top(scores: Tensor | None, count: int) -> list[int]:
    """The units that matter most, in their old order; an image tower has no cross-attention."""
    if scores is None:
        return []
    kept: list[int] = scores.topk(min(count, len(scores))).indices.tolist()
    return sorted(kept)

"""Looking into a model while it reads: what its layers say, and where its attentions look."""

# B rows · N image tokens · T text tokens · M tokens that are looked at · D width · H heads
# K width of a head

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from blip_edge.models.blip import Blip

__all__ = ["Reading", "Seen", "watching"]


@dataclass
class Reading:
    """One pass through a tower: a list entry for each layer."""

    mask: Tensor | None = None
    """(B, T) ones for words; None of pictures, where every token counts."""
    keys: Tensor | None = None
    """Ones, broadcast to (B, 1, N, N), where a token may look at another: not at padding, and in a
    decoder not at what comes later; None where all may."""
    cross_keys: Tensor | None = None
    """The same of what the text looks at, to (B, 1, T, M): of a question not its padding."""
    hidden: list[Tensor] = field(default_factory=list)
    """(B, N, D) outputs of layers."""
    attention: list[Tensor] = field(default_factory=list)
    """(B, H, N, N) scores before softmax."""
    cross: list[list[Tensor]] = field(default_factory=list)
    """(B, H, T, M) scores for what the text looks at: one thing, two of a twin, or nothing."""


@dataclass
class Seen:
    """All passes, in their order: a tower may read several times for one prediction."""

    vision: list[Reading] = field(default_factory=list)
    text: list[Reading] = field(default_factory=list)


@contextmanager
def watching(blip: Blip, *, pad: int, attention: bool) -> Iterator[Seen]:
    """Fill a `Seen` with what happens to `blip` inside; scores only with `attention`.

    `pad` is the id that is no word.
    """
    seen = Seen()
    hooks: list[Any] = []
    vision = blip.vision_model
    hooks.append(vision.register_forward_pre_hook(lambda *_: seen.vision.append(Reading())))
    for layer in vision.blocks:
        hooks.append(layer.register_forward_hook(_keeps_hidden(seen.vision)))
        if attention:
            hooks.append(layer.self_attn.qkv.register_forward_hook(_scores_of(layer, seen)))
    towers = [] if blip.text_encoder is None else [blip.encoder]
    towers += [] if blip.text_decoder is None else [blip.decoder.bert]
    shared: set[nn.Module] = set()  # encoder and decoder may look through the same attention
    for tower in towers:
        hooks.append(tower.register_forward_pre_hook(_begins(seen.text, pad)))
        for block in tower.blocks:
            hooks.append(block.register_forward_hook(_keeps_hidden(seen.text)))
            if attention:
                own = block.attention
                hooks.append(own.register_forward_pre_hook(_looks_around(seen.text)))
                other = block.crossattention
                if other not in shared:
                    hooks.append(other.register_forward_pre_hook(_looks_at(seen.text)))
                shared.add(other)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _begins(readings: list[Reading], pad: int) -> Any:
    def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
        ids, mask = given[:2]
        readings.append(Reading(mask=(ids != pad).float(), keys=_allowed(mask)))

    return hook


def _allowed(mask: Tensor | None) -> Tensor | None:
    """Ones where an additive mask adds nothing."""
    return None if mask is None else (mask == 0).float()


def _keeps_hidden(readings: list[Reading]) -> Any:
    def hook(_: nn.Module, __: Any, out: Any) -> None:
        readings[-1].hidden.append(out[0] if isinstance(out, tuple) else out)

    return hook


def _scores_of(layer: Any, seen: Seen) -> Any:
    heads, width = layer.self_attn.heads, layer.self_attn.head_width

    def hook(_: nn.Module, __: Any, qkv: Tensor) -> None:
        q, k, _v = qkv.unflatten(-1, (3, heads, width)).permute(2, 0, 3, 1, 4).unbind(0)
        seen.vision[-1].attention.append(q @ k.transpose(-1, -2) * width**-0.5)

    return hook


def _looks_around(readings: list[Reading]) -> Any:
    def hook(module: Any, given: tuple[Any, ...]) -> None:
        x, size = given[0], (module.heads, module.head_width)
        q, k = (
            p(x).unflatten(-1, size).transpose(1, 2) for p in (module.self.query, module.self.key)
        )
        readings[-1].attention.append(q @ k.transpose(-1, -2) * module.head_width**-0.5)

    return hook


def _looks_at(readings: list[Reading]) -> Any:
    def hook(module: Any, given: tuple[Any, ...]) -> None:
        x, cross = given[0], given[1]
        if hasattr(module, "self0"):
            sides = [(module.self0, cross.left.key), (module.self1, cross.right.key)]
        else:
            # While it trains, a captioner is given the tokens themselves and not their keys.
            key = module.project(cross).key if isinstance(cross, Tensor) else cross.key
            sides = [(module.self, key)]
            readings[-1].cross_keys = _allowed(getattr(cross, "mask", None))
        found = []
        for projections, key in sides:
            q = projections.query(x).unflatten(-1, (module.heads, module.head_width))
            rows, tokens = x.shape[:2]
            q = q.reshape(len(key), -1, module.heads, module.head_width).transpose(1, 2)
            scores = (q @ key) * module.head_width**-0.5  # (images, H, rows / images · T, M)
            found.append(
                scores.unflatten(2, (-1, tokens))
                .transpose(1, 2)
                .reshape(rows, -1, tokens, scores.shape[-1])
            )
        readings[-1].cross.append(found)

    return hook

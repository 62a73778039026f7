"""What a teacher tells of a batch without being asked about single layers: small enough to keep."""

# B rows · n predictions · C classes or words · k of them · V pictures of a batch, B or 2 · B
# D width of the image tower · E width of the shared space

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from blip_edge.distill.losses import logit_loss, top_logit_loss
from blip_edge.distill.watch import Seen, watching
from blip_edge.models.blip import Blip
from blip_edge.training.batches import Step
from blip_edge.training.objectives import Said, TaughtObjective
from blip_edge.training.objectives.matching import Pairs
from blip_edge.training.randomness import undisturbed

__all__ = ["Predicted", "Taught", "Told", "asked", "asked_first"]

# By a matrix product, as torch takes for more than 25 rows, equal ones are not at distance 0.
_EXACTLY = "donot_use_mm_for_euclid_dist"


class Predicted(NamedTuple):
    """A teacher's logits, all of them or the largest."""

    values: Tensor
    """(n, C), or (n, k) of the classes `ids`."""
    ids: Tensor | None = None
    """(n, k)."""
    rest: Tensor | None = None
    """(n,): the log of the sum of exp(z / T) over the other classes."""

    def compact(self, top: int, temperature: float) -> "Predicted":
        """In half precision, and no more than `top` of each prediction; 0 keeps all.

        The largest is moved to 0, where half precision is finest: a softmax does not see it.
        """
        logits = self.values.float()
        logits = logits - logits.amax(-1, keepdim=True)
        if not 0 < top < logits.shape[-1]:
            return Predicted(logits.half())
        values, ids = logits.topk(top)
        others = (logits / temperature).scatter(-1, ids, -torch.inf)
        return Predicted(values.half(), ids.int(), others.logsumexp(-1))

    def loss(self, student: Tensor, weights: Tensor | None, *, temperature: float) -> Tensor:
        """How far a student's logits (n, C) are from it."""
        if self.ids is None or self.rest is None:
            return logit_loss(student, self.values, weights, temperature=temperature)
        return top_logit_loss(
            student, self.values, self.ids.long(), self.rest, weights, temperature=temperature
        )


@dataclass(frozen=True)
class Told:
    """All that every loss needs, those apart that compare layers."""

    logits: dict[str, Predicted]
    views: Tensor
    """(V, D): the mean of each picture's tokens after the image tower's last layer."""
    looks: Tensor
    """(V,) numbers, equal for equal pictures."""
    features: tuple[Tensor, Tensor] | None = None
    """Unit vectors (B, E) of pictures and of texts."""
    pairs: Pairs | None = None

    @classmethod
    def of(cls, said: Said, seen: Seen, batch: Any) -> "Told":
        """What was said, and seen meanwhile in the image tower."""
        views = seen.vision[0].hidden[-1].mean(1)
        looks = getattr(batch, "picture", None)
        if looks is None:  # equal ones look the same to the teacher
            wide = views.float()
            same = torch.cdist(wide, wide, compute_mode=_EXACTLY) < 1e-4
            numbers = torch.arange(len(same), device=same.device)
            looks = torch.where(same, numbers, len(same)).amin(-1)
        logits = {name: Predicted(values) for name, values in said.logits.items()}
        return cls(logits, views, looks, said.features, said.pairs)

    def compact(self, top: int, temperature: float) -> "Told":
        """As it is kept: half precision, and the `top` largest logits with what the rest weigh."""
        half = self.features and (self.features[0].half(), self.features[1].half())
        logits = {name: one.compact(top, temperature) for name, one in self.logits.items()}
        return Told(logits, self.views.half(), self.looks.int(), half, self.pairs)

    def packed(self) -> dict[str, Tensor]:
        """As named tensors; `unpacked` is the way back."""
        named = {"views": self.views, "looks": self.looks}
        for name, predicted in self.logits.items():
            parts = predicted._asdict().items()
            named |= {f"{part}.{name}": tensor for part, tensor in parts if tensor is not None}
        if self.features is not None:
            named |= {"image": self.features[0], "text": self.features[1]}
        if self.pairs is not None:
            named["pairs"] = torch.stack(list(self.pairs)).int()
        return named

    @classmethod
    def unpacked(cls, named: dict[str, Tensor]) -> "Told":
        """What was packed. Numbers that were kept in few bytes are counted with again."""
        parts = [name.partition(".")[2] for name in named if name.startswith("values.")]
        logits = {
            name: Predicted(
                named[f"values.{name}"], named.get(f"ids.{name}"), named.get(f"rest.{name}")
            )
            for name in parts
        }
        features = None
        if "image" in named:
            features = (named["image"].float(), named["text"].float())
        pairs = Pairs(*named["pairs"].long()) if "pairs" in named else None
        return cls(logits, named["views"].float(), named["looks"], features, pairs)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Told":
        """The same of tensors that are `change`d."""
        return Told.unpacked({name: change(tensor) for name, tensor in self.packed().items()})

    def to(self, device: torch.device) -> "Told":
        """The same on `device`."""
        return self.each(lambda tensor: tensor.to(device))


@dataclass(frozen=True)
class Taught(Step):
    """A batch, and what a teacher tells of it."""

    batch: Any
    told: Told

    @property
    def rows(self) -> int:
        """Of the batch."""
        rows: int = self.batch.rows
        return rows


def asked(
    task: TaughtObjective,
    teacher: Blip,
    batch: Any,
    said: Said | None,
    *,
    pad: int,
    attention: bool = False,
) -> tuple[Told, Seen]:
    """Have `teacher` tell of a batch, about the pairs that were `said` or its own."""
    with torch.no_grad(), watching(teacher, pad=pad, attention=attention) as seen:
        told = task.ask(teacher, batch, said)
    return Told.of(told, seen, batch), seen


def asked_first(
    task: TaughtObjective, teacher: Blip, batch: Any, *, pad: int, attention: bool = False
) -> tuple[Told, Seen]:
    """The same before its student says anything: the teacher chooses the wrong partners.

    What it draws depends on the batch's words alone, and disturbs nobody: so it is the same
    whenever, and by whomever, the teacher is asked.
    """
    with undisturbed():
        torch.manual_seed(crc32(batch.input_ids.cpu().contiguous().numpy().tobytes()))
        return asked(task, teacher, batch, None, pad=pad, attention=attention)

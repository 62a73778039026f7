"""A student's losses: the task's own, and how far it is from its teacher in all that it does."""

# B rows · M candidates · Q rows remembered · N image tokens · D width · E width of the shared space

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.distill.losses import (
    affinity_loss,
    attention_loss,
    contrastive_loss,
    hidden_loss,
)
from blip_edge.distill.recipe import Imitation
from blip_edge.distill.surgery import Keep
from blip_edge.distill.told import Taught, Told, asked, asked_first
from blip_edge.distill.watch import Reading, Seen, watching
from blip_edge.errors import UsageError
from blip_edge.models.blip import Blip
from blip_edge.models.config import VisionConfig
from blip_edge.training.gather import gather
from blip_edge.training.losses import similarities
from blip_edge.training.momentum import FeatureQueue
from blip_edge.training.objectives import Said, TaughtObjective

__all__ = ["DistillObjective"]


class _Said(NamedTuple):
    """What the student said of a batch, and what was seen in it meanwhile."""

    said: Said
    seen: Seen


class _Told(NamedTuple):
    """What its teacher told, and what was seen in it, unless that was read from a store."""

    told: Told
    seen: Seen


class _Memory(nn.Module):
    """One model's features of former batches, beside which those of a batch are compared."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.images = FeatureQueue(size, width, seed=0)
        self.texts = FeatureQueue(size, width, seed=1)

    def compared(
        self, features: tuple[Tensor, Tensor], temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Similarities (B, B + Q) of pictures with texts, and of texts with pictures."""
        image, text = features
        images, texts = self.images.items.to(image.dtype), self.texts.items.to(text.dtype)
        found = (
            similarities(image, torch.cat([text, texts]), temperature),
            similarities(text, torch.cat([image, images]), temperature),
        )
        self.images.push(gather(image.detach()))
        self.texts.push(gather(text.detach()))
        return found


class DistillObjective(nn.Module):
    """Weighted sum of the task's losses and of the distances from a frozen teacher.

    Both models read the same: the same pictures, words and pairs. `keep` says what the student has
    of its teacher: each layer is compared with the one that it was, and a student of another width
    is projected to its teacher's by a matrix that is trained beside it and starts as the channels
    that it inherited.

    Wrong partners are chosen by the student, and then both are asked about them. With `asks_first`
    the teacher chooses, which makes what it tells independent of its student; a batch that comes as
    `Taught` was asked about so, and the teacher is not asked again.
    """

    def __init__(
        self,
        student: Blip,
        teacher: Blip,
        task: TaughtObjective,
        recipe: Imitation,
        keep: Keep,
        *,
        asks_first: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.task = task
        # In a list, so that the teacher is no submodule: train() must not reach its dropout.
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._recipe, self._asks_first = recipe, asks_first
        self._layers = {"vision": list(keep.vision), "text": list(keep.text)}
        self._pad = teacher.config.text_config.pad_token_id
        self._size = student.config.vision_config.image_size
        theirs, mine = teacher.config, student.config
        sees, reads = recipe.hidden_weight + recipe.contrastive_weight, recipe.hidden_weight
        self.widen = nn.ModuleDict(
            {
                name: _widening(channels, size)
                for name, channels, size, weight in (
                    ("vision", keep.vision_channels, theirs.vision_config.hidden_size, sees),
                    ("text", keep.text_channels, theirs.text_config.hidden_size, reads),
                )
                # Several processes wait for every gradient there is.
                if channels is not None and weight > 0
            }
        )
        if recipe.attention_weight and _tokens(mine.vision_config) != [
            _tokens(theirs.vision_config)[number] for number in keep.vision
        ]:
            raise UsageError(
                "attention_weight compares token by token, but the student has other image tokens "
                "than its teacher; set it to 0"
            )
        size, shared = recipe.memory, theirs.image_text_hidden_size
        self.views = FeatureQueue(size, theirs.vision_config.hidden_size, seed=2)
        compares = size if mine.parts.compares and recipe.affinity_weight else 0
        self.mine = _Memory(compares, mine.image_text_hidden_size)
        self.theirs = _Memory(compares, shared)

    def forward(self, batch: Any, step: int) -> dict[str, Tensor]:
        recipe, theirs = self._recipe, None
        if isinstance(batch, Taught):
            batch, theirs = batch.batch, _Told(batch.told, Seen())
        elif self._asks_first:
            theirs = _Told(*asked_first(self.task, self._there(), batch, **self._looks()))
        with watching(self.student, **self._looks()) as seen:
            pairs = theirs and theirs.told.pairs
            losses, said = self.task.learn(self._shrunk(batch), step, pairs)
        mine = _Said(said, seen)
        weighted = {name: recipe.task_weight * loss for name, loss in losses.items()}
        if theirs is None:
            theirs = _Told(*asked(self.task, self._there(), batch, said, **self._looks()))
        for name, weight, distance in (
            ("logit", recipe.logit_weight, self._logits),
            ("affinity", recipe.affinity_weight, self._affinity),
            ("hidden", recipe.hidden_weight, self._hidden),
            ("attention", recipe.attention_weight, self._attention),
            ("contrastive", recipe.contrastive_weight, self._views),
        ):
            if weight and (found := distance(mine, theirs)) is not None:
                weighted[name] = weight * found
        return weighted

    def _there(self) -> Blip:
        """The teacher, where its student is."""
        return self._teacher[0].to(next(self.student.parameters()).device)

    def _looks(self) -> dict[str, Any]:
        """How both are watched."""
        return {"pad": self._pad, "attention": self._recipe.attention_weight > 0}

    def _shrunk(self, batch: Any) -> Any:
        """The batch with its pictures as large as the student sees them.

        It is read at the teacher's size; to another one it goes as nearly as torch can to what
        Pillow makes of the original.
        """
        pixels = {
            each.name: value
            for each in fields(batch)
            if (value := getattr(batch, each.name)).ndim > 3 and value.shape[-1] != self._size
        }
        size = (self._size, self._size)
        smaller = {
            name: F.interpolate(value, size=size, mode="bicubic", antialias=True)
            for name, value in pixels.items()
        }
        return replace(batch, **smaller) if smaller else batch

    def _logits(self, mine: _Said, theirs: _Told) -> Tensor | None:
        weights, temperature = mine.said.weights, self._recipe.temperature
        gaps = [
            theirs.told.logits[name].loss(logits, weights.get(name), temperature=temperature)
            for name, logits in mine.said.logits.items()
        ]
        return torch.stack(gaps).sum()

    def _affinity(self, mine: _Said, theirs: _Told) -> Tensor | None:
        if mine.said.features is None or theirs.told.features is None:
            return None
        ours = self.mine.compared(mine.said.features, self.student.temp)
        temperature = self._teacher[0].temp.to(self.student.temp.device)
        right = self.theirs.compared(theirs.told.features, temperature)
        by_image, by_text = (affinity_loss(a, b) for a, b in zip(ours, right, strict=True))
        return (by_image + by_text) / 2

    def _hidden(self, mine: _Said, theirs: _Told) -> Tensor | None:
        gaps = []
        for tower, student, teacher in self._readings(mine, theirs):
            for x, number in zip(student.hidden, self._layers[tower], strict=True):
                y, mask = teacher.hidden[number], student.mask
                if x.shape[1] != y.shape[1]:  # other patches, or merged ones: their means
                    x, y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
                gaps.append((tower, hidden_loss(self._widened(tower, x), y, mask)))
        return _by_tower(gaps)

    def _attention(self, mine: _Said, theirs: _Told) -> Tensor | None:
        gaps = []
        for tower, student, teacher in self._readings(mine, theirs):
            for here, number in enumerate(self._layers[tower]):
                x, y = student.attention[here], teacher.attention[number]
                gaps.append((tower, attention_loss(x, y, student.mask, student.keys)))
                if student.cross:
                    sides = zip(student.cross[here], teacher.cross[number], strict=True)
                    where = (student.mask, student.cross_keys)
                    gaps += [("cross", attention_loss(x, y, *where)) for x, y in sides]
        return _by_tower(gaps)

    def _views(self, mine: _Said, theirs: _Told) -> Tensor | None:
        view = self._widened("vision", mine.seen.vision[0].hidden[-1].mean(1))  # (B, D)
        right, looks = theirs.told.views.to(view.dtype), theirs.told.looks
        same = looks[:, None] == looks[None, :]
        loss = contrastive_loss(
            view,
            right,
            same,
            temperature=self._recipe.contrastive_temperature,
            others=self.views.items,
        )
        self.views.push(gather(right))
        return loss

    def _readings(self, mine: _Said, theirs: _Told) -> Sequence[tuple[str, Reading, Reading]]:
        vision = zip(mine.seen.vision, theirs.seen.vision, strict=True)
        text = zip(mine.seen.text, theirs.seen.text, strict=True)
        return [("vision", *pair) for pair in vision] + [("text", *pair) for pair in text]

    def _widened(self, tower: str, x: Tensor) -> Tensor:
        if tower not in self.widen:
            return x
        wide: Tensor = self.widen[tower](x)
        return wide


def _tokens(vision: VisionConfig) -> list[tuple[int, int]]:
    """Image tokens before and after each layer."""
    return list(zip((vision.num_tokens, *vision.layer_tokens), vision.layer_tokens, strict=False))


def _widening(channels: list[int], size: int) -> nn.Linear:
    """(…, len(channels)) to (…, size), at first each channel to where the teacher has it."""
    widen = nn.Linear(len(channels), size, bias=False)
    with torch.no_grad():
        widen.weight.zero_()
        widen.weight[channels, torch.arange(len(channels))] = 1.0
    return widen


def _by_tower(gaps: list[tuple[str, Tensor]]) -> Tensor:
    """Means over layers and passes, summed over towers."""
    names = sorted({name for name, _ in gaps})
    means = [torch.stack([gap for name, gap in gaps if name == one]).mean() for one in names]
    return torch.stack(means).sum()

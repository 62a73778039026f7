"""How much a unit matters: what the loss says when its outputs shrink, in every architecture."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blip_edge.data import Dataset
from blip_edge.distill.importance import Criterion, Importance, measure
from blip_edge.distill.surgery import cut, everything
from blip_edge.models import Model
from blip_edge.training.batches import Batch
from blip_edge.training.recipe import Task
from blip_edge.training.tasks import objective_of
from tests.unit.distill import sizes

# What multiplies the output of a unit, written out: by the units, patterns of the matrices' names.
SELF, CROSS = r"attention\.self\.(query|key|value)", r"crossattention\.self[01]?"
READERS = {
    "vision": rf"vision_model.*(qkv|fc1)|vision_proj|{CROSS}\.(key|value)",
    "vision.1.heads": r"vision_model\.encoder\.layers\.1\.self_attn\.projection",
    "vision.0.neurons": r"vision_model\.encoder\.layers\.0\.mlp\.fc2",
    "text": rf"\.{SELF}|{CROSS}\.query|intermediate\.dense|merge_layer|transform\.dense|text_proj"
    r"|itm_head|cls_head\.\d",
    "text.0.heads": r"layer\.0\.attention\.output\.dense",
    "text.1.cross_heads": r"layer\.1\.crossattention\.output\.dense[01]?",
    "text.1.neurons": r"layer\.1\.output\.dense",
}
WIDTH = {"vision.1.heads": 8, "text.0.heads": 4, "text.1.cross_heads": 4}


def loss_of(model: Model, task: Task) -> Callable[[Any], Tensor]:
    """The task's loss, with the same wrong partners and slow copies each time."""
    objective = objective_of(model, sizes.training(task, alpha=0.0, momentum=1.0))

    def loss(batch: Any) -> Tensor:
        torch.manual_seed(1)
        return torch.stack(list(objective(batch, 0).values())).sum()

    return loss


def scored(
    model: Model, batches: list[Any], criterion: Criterion = "taylor", task: Task = "caption"
) -> Importance:
    return measure(model.blip, loss_of(model, task), batches, criterion)


def doubled(batch: Any) -> Any:
    """In double precision, as far as it is no whole numbers."""
    floats = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(
        batch, **{name: x.double() for name, x in floats.items() if x.is_floating_point()}
    )


def readers(model: Model, label: str) -> list[Tensor]:
    found: list[Tensor] = []
    for name, module in model.blip.named_modules():
        if not isinstance(module, nn.Linear) or not re.search(f"({READERS[label]})$", name):
            continue
        # An answer is decoded from the question's states.
        reads_text = model.config.architecture == "BlipForQuestionAnswering" and re.search(
            r"decoder.*crossattention\.self\.(key|value)$", name
        )
        if not (label == "vision" and reads_text):
            found.append(module.weight)
    if label == "text" and model.config.architecture == "BlipForQuestionAnswering":
        for block in model.blip.decoder.bert.blocks:
            found += [block.crossattention.self.key.weight, block.crossattention.self.value.weight]
    return found


def columns(matrix: Tensor, label: str, unit: int, size: int) -> list[slice]:
    """Of a matrix that reads two streams side by side, in both."""
    width = WIDTH.get(label, 1)
    starts = range(unit * width, matrix.shape[1], size * width)
    return [slice(start, start + width) for start in starts]


def shrunk(model: Model, label: str, unit: int, size: int, by: float) -> None:
    with torch.no_grad():
        for matrix in readers(model, label):
            for part in columns(matrix, label, unit, size):
                matrix[:, part] *= by


@pytest.mark.parametrize("task", sizes.TASKS)
def test_a_score_is_what_shrinking_the_unit_costs(world: Dataset, task: Task) -> None:
    """Its slope by finite differences, in double precision."""
    model = sizes.model(world, task)
    model.blip.double()
    batch = doubled(sizes.batches(world, model, task)[0])
    loss, step = loss_of(model, task), 1e-5
    importance = measure(model.blip, loss, [batch])
    for label in READERS:
        scores = importance.scores[label]
        unit = int(scores.argmax())
        assert scores[unit] > 1e-4, f"{label} says nothing"
        sides = []
        for by in (1 - step, 1 + step):
            shrunk(model, label, unit, len(scores), by)
            with torch.no_grad():
                sides.append(loss(batch).item())
            shrunk(model, label, unit, len(scores), 1 / by)
        slope = abs(sides[1] - sides[0]) / (2 * step)
        assert slope == pytest.approx(scores[unit].item(), rel=1e-3), label


def test_every_unit_of_every_layer_is_scored(captioner: Model, batches: list[Batch]) -> None:
    importance = scored(captioner, batches)
    counts = {label: len(scores) for label, scores in importance.scores.items()}
    every = {"vision": 32, "text": 16}
    for number in (0, 1):
        every |= {f"vision.{number}.heads": 4, f"vision.{number}.neurons": 48}
        every |= {f"text.{number}.heads": 4, f"text.{number}.cross_heads": 4}
        every[f"text.{number}.neurons"] = 40
    assert counts == every
    for label, scores in importance.scores.items():
        assert scores.min() > 0 if label.endswith("heads") else scores.max() > 0, label
    assert all(parameter.grad is None for parameter in captioner.blip.parameters())


def by_batch(model: Model, batches: list[Batch]) -> list[Tensor]:
    """Of each batch sum(weight · gradient) over the columns of a layer's cross-attention heads."""
    reader, found = model.blip.decoder.bert.blocks[1].crossattention.output.dense, []
    for batch in batches:
        model.blip.zero_grad()
        loss_of(model, "caption")(batch).backward()
        assert reader.weight.grad is not None
        product = (reader.weight * reader.weight.grad).detach()
        found.append(torch.stack([product[:, 4 * h : 4 * h + 4].sum() for h in range(4)]))
    return found


def test_taylor_sums_amounts_over_batches(captioner: Model, batches: list[Batch]) -> None:
    expected = sum(each.abs() for each in by_batch(captioner, batches))
    got = scored(captioner, batches).scores["text.1.cross_heads"]
    torch.testing.assert_close(got, expected)


def test_fisher_sums_squares_over_batches(captioner: Model, batches: list[Batch]) -> None:
    expected = sum(each.square() for each in by_batch(captioner, batches))
    got = scored(captioner, batches, "fisher").scores["text.1.cross_heads"]
    torch.testing.assert_close(got, expected)


def test_magnitude_is_the_length_of_what_reads_a_unit(captioner: Model) -> None:
    importance = scored(captioner, [], "magnitude")
    vision, bert = captioner.blip.vision_model, captioner.blip.decoder.bert
    head = vision.blocks[0].self_attn.projection.weight[:, 16:24]
    neuron = bert.blocks[1].output.dense.weight[:, 7]
    torch.testing.assert_close(importance.scores["text.1.neurons"][7], neuron.detach().norm())
    channel = torch.cat([matrix[:, 5] for matrix in readers(captioner, "vision")])
    torch.testing.assert_close(importance.scores["vision"][5], channel.detach().norm())
    # A head is as long as its columns together, as a block of neurons is.
    lengths = head.detach().norm(dim=0).sum()
    torch.testing.assert_close(importance.scores["vision.0.heads"][2], lengths)


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "magnitude"])
def test_what_nobody_reads_scores_nothing(
    captioner: Model, batches: list[Batch], criterion: Criterion
) -> None:
    bert, vit = captioner.blip.decoder.bert, captioner.blip.vision_model
    with torch.no_grad():
        vit.blocks[0].self_attn.projection.weight[:, 16:24] = 0
        bert.blocks[1].crossattention.output.dense.weight[:, 0:4] = 0
        bert.blocks[0].output.dense.weight[:, 32:40] = 0
        for matrix in readers(captioner, "vision"):
            matrix[:, 11] = 0
    scores = scored(captioner, batches, criterion).scores
    assert scores["vision.0.heads"][2] == 0 < scores["vision.0.heads"][1]
    assert scores["text.1.cross_heads"][0] == 0
    assert not scores["text.0.neurons"][32:40].any()
    assert scores["vision"][11] == 0 < scores["vision"][12]


def test_a_layer_is_what_its_parts_add_up_to() -> None:
    parts = {"text.0.heads": 1.0, "text.0.cross_heads": 2.0, "text.0.neurons": 4.0, "text": 8.0}
    importance = Importance({label: torch.tensor([x, x]) for label, x in parts.items()})
    assert importance.layer("text", 0) == 14.0


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_heads_has_none_to_score(world: Dataset, batches: list[Batch]) -> None:
    """As a model may be that others pruned: its attention is a bias."""
    model = sizes.model(world, "caption")
    keep = everything(model.blip)
    none = {**keep.vision, 0: keep.vision[0]._replace(heads=[])}
    blip = cut(model.blip, replace(keep, vision=none))
    importance = scored(model.with_blip(blip), batches)
    assert importance.scores["vision.0.heads"].shape == (0,)
    assert importance.scores["vision.1.heads"].shape == (4,)
    assert cut(blip, everything(blip)).config == blip.config

"""The objectives and their gradients against formulas written out, on tiny lively models.

Each case has a queue with content, slow encoders that lag behind, and soft targets of some weight.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from blip_edge.models import Blip, Model
from blip_edge.training.batches import Batch
from blip_edge.training.objectives import PretrainObjective, RetrievalObjective
from blip_edge.training.recipe import TrainRecipe
from tests import tiny
from tests.parity import formulas
from tests.parity.formulas import Memory, Row

RECIPE = TrainRecipe(queue_size=7, momentum=0.75, alpha=0.4, alpha_warmup=8, label_smoothing=0.1)
STEP, ALPHA = 4, 0.2  # half of the way up the ramp
TEXTS = {
    "cat": "a red cat on the mat",
    "dog": "a dog",
    "two": "two dogs and a cat",
    "mat": "the mat is red",
    "long": "a red dog on a red mat and a red cat",
}
# Pictures and their texts. Before each of them came EARLIER, which is still in the queue.
EARLIER = [(0, "two"), (3, "mat"), (9, "dog"), (8, "cat"), (8, "long")]
CASES = {
    "all different": [(0, "cat"), (1, "dog"), (2, "two"), (4, "mat")],
    "one caption, two pictures": [(0, "cat"), (1, "dog"), (2, "dog"), (4, "long")],
    "one picture, two captions": [(3, "cat"), (3, "dog"), (2, "two"), (9, "mat"), (3, "long")],
    "nothing is wrong": [(0, "cat"), (0, "dog"), (0, "two")],
    "one row": [(8, "mat")],
}
# The formulas are computed in double precision; float32 goes through sums in another order.
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-5}


Task = PretrainObjective | RetrievalObjective


@dataclass
class Scene:
    """An objective at its second step, and all that the formulas need to follow it."""

    model: Model
    task: Task
    blip: Blip
    slow: Blip
    memory: Memory


def rows_of(case: list[tuple[int, str]], model: Model) -> list[Row]:
    generator = torch.Generator().manual_seed(6)
    pixels = torch.randn(10, 3, 24, 24, generator=generator).double()
    ids, mask = model.tokenizer.encode([TEXTS[name] for _, name in case])
    lengths = mask.sum(1)
    return [
        Row(picture, pixels[picture], row[:length].tolist())
        for (picture, _), row, length in zip(case, ids, lengths, strict=True)
    ]


def batch_of(rows: list[Row], dtype: torch.dtype) -> Batch:
    longest = max(len(row.ids) for row in rows) + 2
    mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    pixels = torch.stack([row.pixels for row in rows]).to(dtype)
    return Batch(pixels, ids, mask, torch.tensor([row.picture for row in rows]))


def hardest(weights: Tensor) -> Tensor:
    return weights.argmax(-1)


def objective(kind: str) -> tuple[Model, Task]:
    if kind == "pretrain":
        model = tiny.model(list(TEXTS.values()), "BlipForPreTraining")
        return model, PretrainObjective(model.blip, model.tokenizer, RECIPE, draw=hardest)
    model = tiny.model(list(TEXTS.values()), "BlipForImageTextRetrieval")
    everywhere = kind == "retrieval from all"
    return model, RetrievalObjective(
        model.blip, model.tokenizer, RECIPE, negative_all_rank=everywhere, draw=hardest
    )


def scene(kind: str, dtype: torch.dtype) -> Scene:
    """One step on EARLIER, and then weights that have moved on."""
    model, task = objective(kind)
    task.to(dtype)
    start, contrast = deepcopy(model.blip).double(), task.contrast
    features = zip(
        contrast.images.items.double().clone(), contrast.texts.items.double().clone(), strict=True
    )
    memory = Memory([(feature, -100) for feature in features])
    earlier = rows_of(EARLIER, model)
    task(batch_of(earlier, dtype), 0)
    with torch.no_grad():
        known = [(formulas.views(start, row), row.picture) for row in earlier]
        for number, parameter in enumerate(model.blip.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(noise.to(dtype) * 0.1 * parameter.abs().mean())
    formulas.remember(memory, known)
    moved = deepcopy(model.blip).double()
    return Scene(model, task, moved, formulas.slower(start, moved, RECIPE.momentum), memory)


def expected(kind: str, scene: Scene, rows: list[Row]) -> dict[str, Tensor]:
    """The losses by the formulas."""
    blip, words = scene.blip, scene.model.tokenizer
    # Pre-training looks for wrong partners among slow features, fine-tuning among its own.
    among = scene.slow if kind == "pretrain" else blip
    with torch.no_grad():
        images, texts = zip(*[formulas.views(among, row) for row in rows], strict=True)
    by_picture = kind != "pretrain"
    losses = {
        "itc": formulas.itc(blip, scene.slow, rows, scene.memory, ALPHA, by_picture=by_picture),
        "itm": formulas.itm(blip, rows, list(texts), list(images), words),
    }
    if kind == "pretrain":
        losses["lm"] = formulas.lm(blip, rows, words, RECIPE.label_smoothing)
    return losses


def gradients(loss: Tensor, blip: Blip) -> dict[str, Tensor]:
    """Of every parameter; zeros where the loss does not depend on it."""
    names, parameters = zip(*blip.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["pretrain", "retrieval", "retrieval from all"])
def test_losses_and_gradients_are_those_of_the_formulas(
    kind: str, case: str, dtype: torch.dtype
) -> None:
    made, close = scene(kind, dtype), CLOSE[dtype]
    rows = rows_of(CASES[case], made.model)
    got = made.task(batch_of(rows, dtype), STEP)
    want = expected(kind, made, rows)
    assert got.keys() == want.keys()
    for name, loss in want.items():
        torch.testing.assert_close(got[name].double(), loss, rtol=close, atol=close)
        ours, theirs = gradients(got[name], made.model.blip), gradients(loss, made.blip)
        assert sum(gradient.any().item() for gradient in theirs.values()) > 40
        for parameter, gradient in theirs.items():
            torch.testing.assert_close(
                ours[parameter].double(),
                gradient,
                rtol=close,
                atol=close,
                msg=partial("{} of {}: {}".format, name, parameter),
            )

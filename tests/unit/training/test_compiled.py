"""torch.compile of layers: the same losses, and nothing of it left behind."""

import os
import shutil
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from blip_edge.errors import UsageError
from blip_edge.models import Blip
from blip_edge.models.bert import TextLayer
from blip_edge.models.vit import VisionLayer
from blip_edge.training.batches import Batch
from blip_edge.training.compiled import compiled, require_compiler
from blip_edge.training.course import Course
from blip_edge.training.loop import fit
from blip_edge.training.objectives import CaptionObjective, PretrainObjective
from blip_edge.training.recipe import TrainRecipe
from tests import tiny

TEXTS = ["a red cat", "a blue dog on a mat"]
RECIPE = TrainRecipe(lr=1e-3, queue_size=11, prompt="")
# Sums in another order, over six steps.
CLOSE = 2e-4

no_compiler = not any(map(shutil.which, ("g++", "clang++")))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch traces runs as it is: nothing is compiled, which takes minutes."""
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def batches(lengths: list[int]) -> list[Batch]:
    made = []
    for seed, length in enumerate(lengths):
        draw = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, 20, (4, length), generator=draw)
        pixels = torch.randn(4, 3, 24, 24, generator=draw)
        made.append(Batch(pixels, ids, torch.ones_like(ids), torch.arange(4)))
    return made


def trained(
    kind: Any, architecture: Any, lengths: list[int], **course: Any
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The losses of some steps without dropout, and the weights after them."""
    model = tiny.model(TEXTS, architecture)
    for part in model.blip.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0  # type: ignore[assignment]
    torch.manual_seed(0)
    history = fit(
        *(model.blip, kind(model.blip, model.tokenizer, RECIPE), batches(lengths), RECIPE),
        steps=len(lengths),
        description="x",
        course=Course(**course),
        evaluate=partial(looked_at, model.blip),
        eval_every=2,
    )
    kinds = (VisionLayer, TextLayer)
    assert not [m for m in model.blip.modules() if isinstance(m, kinds) and "forward" in vars(m)]
    return [point for point in history if "metric" not in point], model.blip.state_dict()


@torch.no_grad()
def looked_at(blip: Blip) -> float:
    """An evaluation, of pictures in batches of another size."""
    return float(blip.vision_model(torch.ones(3, 3, 24, 24)).sum())


def the_same(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert len(one) == len(other) > 1
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b, abs=CLOSE)


@pytest.mark.usefixtures("traced")
def test_layers_share_what_was_traced_and_evaluation_has_none() -> None:
    how: Any = (CaptionObjective, "BlipForConditionalGeneration", [6, 6, 8, 9])
    plain, after = trained(*how)
    assert not counters["stats"]
    found, weights = trained(*how, compile=True)
    the_same(found, plain)
    # Two layers a tower: one graph of the image tower, of the text tower one that knows no length.
    assert counters["stats"]["unique_graphs"] == 3
    torch.testing.assert_close(weights, after, rtol=0, atol=1e-3)


@pytest.mark.usefixtures("traced")
def test_compiled_layers_can_be_computed_again() -> None:
    how: Any = (PretrainObjective, "BlipForPreTraining", [6, 6])
    plain, _ = trained(*how)
    found, _ = trained(*how, compile=True, recompute=True)
    the_same(found, plain)
    assert 3 <= counters["stats"]["unique_graphs"] <= 12


@pytest.mark.usefixtures("traced")
def test_twelve_layers_that_drop_paths_are_not_twelve_graphs() -> None:
    """Each has a rate of its own; torch gives up where one function needs too many graphs."""
    model = tiny.model(TEXTS).blip.train()
    layer = model.vision_model.encoder.layers[0]
    rates = [number / 22 for number in range(12)]
    with compiled(layer):
        for rate in rates:
            layer.drop_path = rate  # type: ignore[assignment]
            layer(torch.ones(2, 10, 32))
    assert counters["stats"]["unique_graphs"] <= 3


@pytest.mark.slow
@pytest.mark.skipif(no_compiler, reason="no C++ compiler")
def test_compiled_steps_learn_what_plain_ones_do() -> None:
    torch.compiler.reset()
    how: Any = (CaptionObjective, "BlipForConditionalGeneration", [6, 6, 6])
    the_same(trained(*how, compile=True)[0], trained(*how)[0])


def test_without_a_compiler_it_is_said_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environ, "PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        require_compiler(torch.device("cpu"))
    require_compiler(torch.device("cuda"))

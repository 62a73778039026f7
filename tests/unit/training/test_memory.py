"""The estimate of memory against what there really is: counted parameters, and kept tensors."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from blip_edge.models import BlipConfig, TextConfig, VisionConfig, build
from blip_edge.models.config import ARCHITECTURES, Architecture
from blip_edge.models.presets import preset
from blip_edge.training.batches import Batch, DialogBatch, Nlvr2Batch, Step, VqaBatch
from blip_edge.training.memory import TEXT_TOKENS, estimate, planned
from blip_edge.training.objectives import (
    CaptionObjective,
    DialogObjective,
    Nlvr2Objective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)
from blip_edge.training.recipe import Task, TrainRecipe

TASKS: tuple[Task, ...] = ("pretrain", "caption", "retrieval", "vqa", "nlvr2", "visdial")
# What no term counts: statistics of norms, embeddings, the small heads.
CLOSE = 0.04
ROWS, SIZE, WORDS = 4, 96, 100


def small(architecture: Architecture) -> BlipConfig:
    """Layers that weigh more than what is around them."""
    vision = VisionConfig(
        image_size=SIZE,
        patch_size=8,
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=200,
    )
    text = TextConfig(
        vocab_size=WORDS,
        max_position_embeddings=300,
        hidden_size=96,
        encoder_hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=2,
        head_dim=64,
        intermediate_size=150,
        merge_from_layer=2,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    return BlipConfig(vision_config=vision, text_config=text, architecture=architecture)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", TASKS)
def test_activations_are_what_autograd_keeps(task: Task, precision: Any) -> None:
    config = small(ARCHITECTURES[task])
    recipe = TrainRecipe(task=task, batch=ROWS, precision=precision, queue_size=32, prompt="")
    expected = estimate(config, recipe).activations
    assert kept(config, recipe) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("task", ["caption", "nlvr2"])
def test_merged_image_tokens_are_not_kept(task: Task) -> None:
    whole = small(ARCHITECTURES[task])
    vision = replace(whole.vision_config, tokens_kept=(120, 100, 80, 60))
    config = replace(whole, vision_config=vision)
    recipe = TrainRecipe(task=task, batch=ROWS, prompt="")
    expected = estimate(config, recipe).activations
    assert kept(config, recipe) == pytest.approx(expected, rel=CLOSE)
    assert expected < 0.8 * estimate(whole, recipe).activations


def kept(config: BlipConfig, recipe: TrainRecipe) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights not counted."""
    torch.manual_seed(0)
    blip = build(config).train()
    words = SimpleNamespace(dec=WORDS - 2, enc=WORDS - 1, prompt_ids=lambda prompt: [1])
    objective = OBJECTIVES[recipe.task](blip, words, recipe)
    own = {p.untyped_storage().data_ptr() for p in objective.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            found[memory.data_ptr()] = memory.nbytes()
        return tensor  # which keeps the address its own

    half = recipe.precision == "bf16"
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = objective(batch(recipe), 0)
        kept_bytes = sum(found.values())
    assert losses
    return kept_bytes


OBJECTIVES: dict[str, Any] = {
    "pretrain": PretrainObjective,
    "caption": CaptionObjective,
    "retrieval": RetrievalObjective,
    "vqa": VqaObjective,
    "nlvr2": lambda blip, words, recipe: Nlvr2Objective(blip, words),
    "visdial": lambda blip, words, recipe: DialogObjective(blip, words),
}


def texts(rows: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Ids and their mask."""
    ids = torch.randint(5, WORDS - 2, (rows, tokens))
    return ids, torch.ones_like(ids)


def batch(recipe: TrainRecipe) -> Step:
    """The longest texts that the estimate assumes."""
    pixels = torch.randn(ROWS, 3, SIZE, SIZE)
    ids, mask = texts(ROWS, TEXT_TOKENS[recipe.task])
    match recipe.task:
        case "vqa":
            of = torch.arange(ROWS).repeat_interleave(4)
            return VqaBatch(pixels, ids, mask, *texts(4 * ROWS, 8), of, torch.ones(4 * ROWS))
        case "nlvr2":
            return Nlvr2Batch(pixels, pixels.clone(), ids, mask, torch.ones(ROWS).long())
        case "visdial":
            dialogs = texts(2 * ROWS, TEXT_TOKENS["visdial"])
            return DialogBatch(pixels, *texts(ROWS, 35), *dialogs, torch.ones(2 * ROWS).long())
        case _:
            return Batch(pixels, ids, mask, torch.arange(ROWS))


def test_what_a_recipe_asks_for_beyond_the_weights_is_in_the_sum() -> None:
    config = preset("base")
    plain = estimate(config, TrainRecipe())
    assert plain.gradients == plain.weights == plain.optimiser // 2
    assert plain.momentum == plain.queue == plain.average == plain.best == plain.ahead == 0
    more = estimate(config, TrainRecipe(ema=0.999, eval_every=10, workers=2, batch=1))
    assert more.average == more.best == more.weights
    assert more.ahead == 2 * 2 * 3 * 384 * 384 * 4
    assert plain.total == sum(value for name, value in plain.to_json().items() if name != "total")


def test_recomputing_leaves_little_and_batches_cost_in_proportion() -> None:
    def activations(**how: Any) -> int:
        recipe = TrainRecipe(task="pretrain", image_size=224, queue_size=0, **how)
        return estimate(planned(preset("large"), recipe), recipe).activations

    assert activations(batch=8, recompute=True) < activations(batch=8) / 3
    assert activations(batch=16) == pytest.approx(2 * activations(batch=8), rel=0.01)


def test_a_start_is_counted_as_the_task_will_train_it() -> None:
    recipe = TrainRecipe(task="vqa", image_size=480)
    config = planned(preset("base", image_size=224), recipe)
    assert config.architecture == "BlipForQuestionAnswering"
    assert config.vision_config.num_tokens == 901
    assert planned(preset("base", image_size=224), TrainRecipe()).vision_config.image_size == 224

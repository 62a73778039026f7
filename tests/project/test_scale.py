"""The sums of pre-training at BLIP's scale: their section, and their count of operations."""

from dataclasses import replace

import pytest

from blip_edge.recipe import load
from tests.project.test_readme_numbers import program_of

torch = pytest.importorskip("torch")

PROGRAM = program_of("scale")
MEASURE = program_of("scale_measure")


def test_the_section_says_what_the_program_computes() -> None:
    page = PROGRAM.PAGE.read_text(encoding="utf-8")
    assert PROGRAM.BEGIN in page and PROGRAM.END in page
    assert PROGRAM.with_section(page, PROGRAM.measured()) == page


def test_parameters_are_those_of_the_recipes_networks() -> None:
    for size, found in PROGRAM.measured()["sizes"].items():
        config = MEASURE.config_of(MEASURE.recipe_of(size))
        assert MEASURE.parameters(config) == found["parameters"]


@pytest.mark.parametrize(("depth", "side", "recompute"), [(1, 32, False), (3, 48, True)])
def test_operations_are_those_that_torch_counts(depth: int, side: int, *, recompute: bool) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from blip_edge.models import build
    from blip_edge.training import TrainRecipe
    from blip_edge.training.batches import Batch
    from blip_edge.training.objectives import PretrainObjective
    from blip_edge.training.recompute import recomputing

    pairs, tokens = 4, 7
    sizes = {"vision_width": 48, "vision_heads": 4, "text_layers": 2, "text_width": 32}
    recipe = replace(
        load(TrainRecipe, "train", "pretrain-129m-base", [f"{k}={v}" for k, v in sizes.items()]),
        image_size=side,
        vision_layers=depth,
        text_heads=2,
        embed_dim=8,
        queue_size=20,
    )
    blip = build(MEASURE.config_of(recipe)).train()
    objective = PretrainObjective(blip, MEASURE.Marks(), recipe)
    ids = torch.randint(1000, 30000, (pairs, tokens))
    pixels = torch.randn(pairs, 3, side, side)
    batch = Batch(pixels, ids, torch.ones_like(ids), torch.arange(pairs))
    with (
        FlopCounterMode(display=False) as counted,
        sdpa_kernel(SDPBackend.MATH),
        recomputing(blip, on=recompute),
    ):
        torch.stack(list(objective(batch, 0).values())).sum().backward()
    network = replace(PROGRAM.Run(recipe, {}).network, tokens=tokens)
    summed = PROGRAM.learning(network, 20 + pairs, recompute=recompute)
    assert counted.get_total_flops() / pairs == summed


def test_a_base_run_by_hand() -> None:
    base, large = PROGRAM.runs(PROGRAM.measured())
    # 197 tokens, 768 wide, 12 layers: 17.6 G multiplications, as published of ViT-B at 224.
    assert base.network.image == pytest.approx(17.6e9, rel=0.01)
    assert (base.step, large.step) == (2880, 2400)
    assert base.epoch == 24.7e6 + 23e6
    assert base.trained == pytest.approx(4 * 252e6, rel=0.01)
    assert base.hours == pytest.approx(
        20 * base.epoch * base.operations / (0.3 * 312e12) / 32 / 3600
    )
    assert base.memory == pytest.approx(
        4 * base.trained + base.trained + base.remembered + base.activations
    )


def test_soft_targets_rise_for_two_epochs() -> None:
    for run in PROGRAM.runs(PROGRAM.measured()):
        assert run.recipe.alpha_warmup == pytest.approx(2 * run.epoch / run.step, rel=1e-3)

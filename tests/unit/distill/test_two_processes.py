"""`distill` and `prune` in two processes: both cut alike, and what is learned is of all rows."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blip_edge.artifact import read_provenance
from blip_edge.data import Dataset
from blip_edge.models import load_model, save_model
from tests.unit.distill import sizes
from tests.unit.training.together import Run, together

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or not torch.distributed.is_gloo_available(),
        reason="needs fork and gloo",
    ),
]

# Sums in another order.
CLOSE = 1e-5
# Means over rows alone, so that two halves are one whole; scores ask no data but for `taylor`.
PLAIN = (
    "steps=3 lr=0.001 clip=0.5 hidden_weight=0 contrastive_weight=0 importance=magnitude "
    "vision_layers=1 text_width=12 text_neurons=16 text_heads=2"
)
FULL = (
    "steps=2 batch=3 calibration=2 memory=4 attention_weight=0.1 vision_width=24 vision_neurons=24"
)
PRUNED = "steps=4 batch=3 calibration=2 keep=0.6 rounds=2"


@pytest.fixture(scope="module")
def runs(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Students and pruned models of one process and of two."""
    folder = tmp_path_factory.mktemp("runs")
    found: list[Run] = []
    for task in ("nlvr2", "retrieval"):
        (folder / task).mkdir()
        save_model(folder / task, sizes.model(world, task))
    for name, verb, task, how, count in (
        ("one", "distill", "nlvr2", f"{PLAIN} batch=6", 1),
        ("two", "distill", "nlvr2", f"{PLAIN} batch=3", 2),
        ("narrow", "distill", "retrieval", FULL, 2),
        ("sharded", "distill", "retrieval", f"{FULL} shard=true", 2),
        ("pruned", "prune", "retrieval", PRUNED, 2),
    ):
        argv = [verb, str(folder / task), "--data", str(world.folder), "-q", "--device", "cpu"]
        argv += [word for key in how.split() for word in ("--set", key)]
        found.append({"argv": [*argv, "-o", str(folder / name)], "world": count})
    done = together(folder / "together", found)
    assert all(not any(each["codes"]) for each in done), done
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    """All but the biases of keys: a softmax does not see them, and AdamW follows their rounding."""
    state = load_model(folder).blip.state_dict()
    return {name: x for name, x in state.items() if not name.endswith(("key.bias", "qkv.bias"))}


def test_two_halves_teach_what_the_whole_does(runs: Path) -> None:
    one, two = (load_model(runs / name).blip for name in ("one", "two"))
    assert two.config == one.config
    torch.testing.assert_close(weights(runs / "two"), weights(runs / "one"), rtol=0, atol=CLOSE)
    start = load_model(runs / "nlvr2").blip.vision_model.blocks[1].mlp.fc1.weight
    assert not torch.equal(start, two.vision_model.blocks[0].mlp.fc1.weight), "it was trained"
    # A curve's points are means over processes.
    histories = [read_provenance(runs / name).history for name in ("one", "two")]
    for alone, shared in zip(*histories, strict=True):
        assert shared == pytest.approx(alone, abs=CLOSE)


def test_what_is_cut_is_the_same_in_both(runs: Path) -> None:
    """Each scores its own rows; channels, queues and projectors must not differ for that."""
    for name in ("narrow", "sharded"):
        model = load_model(runs / name)
        assert model.config.vision_config.hidden_size == 24
        history = read_provenance(runs / name).history
        assert {"affinity", "hidden", "attention", "contrastive"} <= set(history[0])


def test_sharded_students_are_those_of_processes_that_keep_all(runs: Path) -> None:
    narrow, sharded = (weights(runs / name) for name in ("narrow", "sharded"))
    torch.testing.assert_close(sharded, narrow, rtol=0, atol=CLOSE)


def test_a_model_is_pruned_by_several(runs: Path) -> None:
    whole, pruned = (load_model(runs / name).blip for name in ("retrieval", "pruned"))
    count = [sum(p.numel() for p in blip.parameters()) for blip in (whole, pruned)]
    assert count[1] <= 0.6 * count[0]

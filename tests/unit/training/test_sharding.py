"""Two processes that each keep a share of the weights learn what two do that keep all of them."""

import os
import sys
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from blip_edge.artifact import read_provenance
from blip_edge.data import Dataset
from blip_edge.errors import UsageError
from blip_edge.models import Model, load_model
from blip_edge.training.best import named_tensors
from blip_edge.training.course import Course
from blip_edge.training.loop import fit
from blip_edge.training.objectives import CaptionObjective, PretrainObjective
from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.sharding import full, gathered, like, sharded
from blip_edge.training.source import Source
from blip_edge.training.tasks import batches_of
from tests import tiny
from tests.unit.training.together import Done, Run, together

pair = pytest.mark.skipif(
    not hasattr(os, "fork") or not torch.distributed.is_gloo_available(),
    reason="needs fork and gloo",
)

# Sums in another order.
CLOSE = 1e-5
TASKS = {
    "pretrain": "queue_size=11 momentum=0.9",
    "caption": "eval_every=2 eval_items=2",
}
SHARED = (
    "steps=4 batch=3 lr=0.001 clip=0.3 accumulate=2 ema=0.5 save_every=2 recompute=true "
    "image_size=24 patch_size=8 vision_layers=2 vision_width=32 vision_heads=4 text_layers=1 "
    "text_width=16 text_heads=4 vocab_size=60 max_positions=48 embed_dim=6"
)


@pytest.fixture(scope="module")
def runs(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of both tasks, `copied` and `sharded`, and one that was killed and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    done: list[Done] = together(folder / "together", asked(world.folder, folder))
    codes = [found["codes"] for found in done]
    killed = codes.pop(2)
    assert -9 in killed and 0 not in killed, done  # who is killed last may first miss the other
    assert codes == [[0, 0]] * 5, done
    return folder


def asked(data: Path, folder: Path) -> list[Run]:
    """The commands."""
    found: list[Run] = []
    for task, how in TASKS.items():
        argv = ["train", "--data", str(data), "-q", "--device", "cpu", "--set", f"task={task}"]
        argv += [word for key in f"{SHARED} {how}".split() for word in ("--set", key)]
        copied, *shared = (str(folder / f"{n}-{task}") for n in ("copied", "sharded", "torn"))
        found.append({"argv": [*argv, "-o", copied], "world": 2})
        argv += ["--set", "shard=true", "-o"]
        found.append({"argv": [*argv, shared[0]], "world": 2})
        if task == "pretrain":
            until = f"{shared[1]}.checkpoints/step-000000002*"
            found.append({"argv": [*argv, shared[1]], "world": 2, "until": until})
            found.append({"argv": [*argv, shared[1], "--resume"], "world": 2})
    return found


@pair
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_losses_and_weights_are_those_of_processes_that_keep_all(runs: Path, task: str) -> None:
    """With an average, accumulation and clipping; with momentum encoders, or the best of two."""
    copied, sharded = (runs / f"{name}-{task}" for name in ("copied", "sharded"))
    histories = [read_provenance(folder).history for folder in (copied, sharded)]
    assert [point["step"] for point in histories[0] if "lm" in point] == [0, 1, 2, 3]
    assert sum("metric" in point for point in histories[0]) == (2 if task == "caption" else 0)
    for one, other in zip(*histories, strict=True):
        assert other == pytest.approx(one, abs=CLOSE)
    weights = [load_file(folder / "model.safetensors") for folder in (copied, sharded)]
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=CLOSE)
    blips = [load_model(folder).blip for folder in (copied, sharded)]
    if task == "pretrain":
        torch.testing.assert_close(blips[1].temp, blips[0].temp, rtol=0, atol=CLOSE)
        assert blips[1].temp.item() != pytest.approx(0.07, abs=1e-4), "it was learned"


@pair
@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_bytes(runs: Path) -> None:
    ended, torn = (runs / f"{name}-pretrain" / "model.safetensors" for name in ("sharded", "torn"))
    assert torn.read_bytes() == ended.read_bytes()


@pair
@pytest.mark.slow
def test_each_keeps_half_and_can_have_all(tmp_path: Path) -> None:
    spawn(_shares, (tmp_path,), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["weights"] == pytest.approx(0.5, abs=0.05)
        assert found["state"] == found["weights"]
        assert found["momentum encoders"] == 1.0
        assert found["gathered"] and found["ordinary"]
        assert torch.equal(found["there and back"], torch.arange(15.0).view(5, 3))


def test_one_process_keeps_all(captioner: Model, world: Dataset) -> None:
    weights: list[dict[str, Tensor]] = []
    for shard in (False, True):
        blip, recipe = deepcopy(captioner.blip), TrainRecipe(prompt="", batch=4)
        objective = CaptionObjective(blip, captioner.tokenizer, recipe)
        batches = batches_of(Source(world), captioner, recipe, seed=0)
        torch.manual_seed(0)
        course = Course(shard=shard)
        fit(blip, objective, batches, recipe, steps=2, description="test", course=course)
        weights.append(blip.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_layers_are_not_compiled_as_well() -> None:
    with pytest.raises(UsageError, match="shard and compile do not go together"):
        Course(shard=True, compile=True)


def _shares(rank: int, folder: Path) -> None:
    """What each process does; it leaves `rank`.pt in `folder`."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=5),
    )
    whole = tiny.model(["a red cat", "a blue dog"], "BlipForPreTraining")
    recipe = TrainRecipe(queue_size=11)
    task = PretrainObjective(whole.blip, whole.tokenizer, recipe)
    model, objective = sharded(whole.blip, task, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in named_tensors(whole.blip).items()}
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    slow = task.contrast.slow
    with torch.no_grad():
        for parameter in whole.blip.parameters():
            parameter.zero_()  # so that there is something to bring back
    with gathered(model, whole.blip):
        after = named_tensors(whole.blip)
        decayed = 1 - 1e-3 * 1e-2  # AdamW's own
        same = [torch.allclose(after[name], before[name] * decayed) for name in before]
    x = torch.arange(15.0).view(5, 3)
    vector = next(p for p in model.parameters() if p.ndim)
    found = {
        "weights": _held(model.parameters()) / _held(whole.blip.parameters()),
        "state": _held(s["exp_avg"] for s in optimiser.state.values())
        / _held(whole.blip.parameters()),
        "momentum encoders": _held(objective.contrast.slow.parameters()) / _held(slow.parameters()),
        "gathered": all(same),
        "ordinary": all(type(p) is torch.nn.Parameter for p in whole.blip.parameters()),
        "there and back": full(like(x, vector)),
    }
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def _held(tensors: Any) -> int:
    """Numbers that this process holds of them."""
    return sum(t.to_local().numel() if hasattr(t, "to_local") else t.numel() for t in tensors)

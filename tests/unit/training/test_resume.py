"""A run that was killed ends with the weights of one that was not, bit for bit."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import Model
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.checkpoints import Checkpoints
from blip_edge.training.course import Course
from blip_edge.training.loop import fit
from blip_edge.training.recipe import Optimisation
from tests.unit.training.killed import STEPS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `killed` left: a run for itself, one that was killed again and again, and pairs."""
    if not hasattr(os, "fork") or not torch.distributed.is_gloo_available():
        pytest.skip("needs fork and gloo")
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.unit.training.killed", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return folder


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(runs: Path) -> None:
    """With dropout, momentum encoders, a queue, an average, accumulation and augmentation."""
    assert read(runs, "summary")["kills"] >= 2
    whole, killed = read(runs, "whole-0"), read(runs, "killed-0")
    assert killed == {**whole, "skipped": killed["skipped"]}
    assert list(killed["skipped"]) == list(whole["skipped"]) == ["train/000007.png"]
    assert whole["last"] == 2
    assert [p["step"] for p in whole["history"] if "metric" in p] == [5, 11, 17, STEPS - 1]


@pytest.mark.slow
def test_two_processes_that_died_together_and_were_resumed(runs: Path) -> None:
    assert read(runs, "summary")["pairs"][:3] == [[0, 0], [9, 9], [0, 0]]
    for rank in range(2):
        assert read(runs, f"stopped-{rank}") == read(runs, f"pair-{rank}")
    pair = [read(runs, f"pair-{rank}") for rank in range(2)]
    assert pair[0]["digest"] == pair[1]["digest"], "both hold the same weights and queues"
    assert pair[0]["history"] == pair[1]["history"]
    assert pair[0]["drawn"] != pair[1]["drawn"], "each draws its own dropout"
    assert pair[0]["digest"] != read(runs, "whole-0")["digest"]


@pytest.mark.slow
def test_two_processes_with_half_the_rows_learn_what_one_does(runs: Path) -> None:
    one, *two = (read(runs, name) for name in ("one-0", "shared-0", "shared-1"))
    assert two[0] == two[1]
    assert two[0]["weights"] == pytest.approx(one["weights"], abs=1e-6)
    assert two[0]["losses"] == pytest.approx(one["losses"], abs=2e-5)


class Stopped(Exception):
    pass


def batches() -> list[Batch]:
    count = torch.arange(2)
    return [Batch(torch.randn(2, 3), count[:, None], count[:, None], count) for _ in range(20)]


def trained(
    folder: Path, *, stop: int | None = None, steps: int = 10, remembers: int = 2, **how: Any
) -> Tensor:
    """The weights after ten steps on a list of batches, or an exception at step `stop`."""
    torch.manual_seed(0)
    data, model = batches(), nn.Linear(3, 2)

    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("seen", torch.zeros(remembers))

        def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
            if step == stop:
                raise Stopped
            self.get_buffer("seen").add_(1.0)
            y = model(nn.functional.dropout(batch.pixel_values, 0.5))
            return {"l": (y * self.get_buffer("seen")).square().sum()}

    made = Checkpoints(folder, {"lr": 0.1}, every=3, resume=True)
    recipe = Optimisation(lr=0.1, warmup=5)
    how = {"course": Course(accumulate=2), **how}
    fit(model, Task(), data, recipe, steps=steps, description="x", checkpoints=made, **how)
    return model.weight.detach()


@pytest.mark.parametrize("stop", [2, 3, 5, 9])
def test_an_iterable_is_read_on_from_where_it_was(tmp_path: Path, stop: int) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path / "a", stop=stop)
    assert torch.equal(trained(tmp_path / "a"), trained(tmp_path / "b"))


def test_where_a_run_goes_on_is_said(tmp_path: Path) -> None:
    said: list[str] = []

    class Listener:
        note = staticmethod(lambda _: None)
        say = staticmethod(said.append)

        @staticmethod
        def track(items: Any, description: str, *, total: int) -> Any:
            said.append(f"{description} {total}")
            yield from items

    with pytest.raises(Stopped):
        trained(tmp_path, stop=7)
    trained(tmp_path, progress=Listener())
    assert said == ["continuing after step 6 of 10", "x 4"]


def test_another_course_is_another_run(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, stop=4)
    with pytest.raises(UsageError, match=r"ema was 0\.0 and is 0\.5, total steps was 10 and is 9"):
        trained(tmp_path, steps=9, course=Course(accumulate=2, ema=0.5))


def test_a_model_of_other_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, stop=4)
    with pytest.raises(ArtifactError, match=r"another model: objective\.seen does not fit"):
        trained(tmp_path, remembers=3)


def test_pictures_that_were_damaged_before_are_still_listed(
    world: Dataset, captioner: Model, tmp_path: Path
) -> None:
    """Nothing meets them again: the run ends within the first epoch."""
    rows = world.captions("train")
    first = int(np.random.default_rng(0).permutation(len(rows))[0])
    rows[first] = replace(rows[first], image="gone.png")

    def skipped(stop: int | None) -> dict[str, str]:
        model = nn.Linear(1, 1)

        def loss(batch: Batch, step: int) -> dict[str, Tensor]:
            if step == stop:
                raise Stopped
            return {"l": model.bias.sum()}

        data = (world, rows, captioner.tokenizer, captioner.preprocess)
        made = CaptionBatches(*data, batch=8, seed=0, max_bad=0.1)
        checkpoints = Checkpoints(tmp_path, {}, every=1, resume=True)
        how: dict[str, Any] = {"steps": 12, "description": "x", "checkpoints": checkpoints}
        fit(model, loss, made, Optimisation(), **how)
        return made.skipped

    with pytest.raises(Stopped):
        skipped(5)
    assert list(skipped(None)) == ["gone.png"]

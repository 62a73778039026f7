"""A run of `prune` that goes on makes the cuts that it made, whatever this machine measures now."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from blip_edge.artifact import write_json
from blip_edge.data import Dataset
from blip_edge.distill import PruneRecipe, prune, pruning
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import BlipConfig, save_model
from blip_edge.models.weighing import parameters
from tests.unit.distill import sizes
from tests.unit.distill.stops import Stops

HOW = PruneRecipe(
    steps=6, batch=4, calibration=2, save_every=2, rounds=2, keep=0.6, rounds_share=0.25,
    per="latency",
)  # fmt: skip


@pytest.fixture
def go(world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Prune on a machine that measures other latencies in every run but the first two."""
    runs = count()

    def meter_of(*_: Any) -> Any:
        run = next(runs)

        def meter(config: BlipConfig) -> float:
            return float(sum(parameters(config).values()) ** (1 if run < 2 else 0.8))

        return meter

    monkeypatch.setattr(pruning, "meter_of", meter_of)
    whole = tmp_path / "model"
    whole.mkdir()
    save_model(whole, sizes.model(world, "caption"))

    def go(name: str, recipe: PruneRecipe = HOW, **more: Any) -> Path:
        return prune(whole, world.folder, tmp_path / name, recipe, seed=3, **more)

    return go


def test_a_latency_that_is_measured_again_makes_no_other_cuts(
    go: Callable[..., Path], tmp_path: Path
) -> None:
    whole = go("whole")
    with pytest.raises(KeyboardInterrupt):
        go("torn", progress=Stops("prune caption", 3))
    with pytest.raises(UsageError, match="keep was"):  # and takes nothing from the killed run
        go("torn", replace(HOW, keep=0.7), resume=True)
    torn, name = go("torn", resume=True), "model.safetensors"
    assert (torn / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "torn.checkpoints").exists()


def test_cuts_of_another_run_are_not_made(go: Callable[..., Path], tmp_path: Path) -> None:
    whole = go("whole")
    kept = tmp_path / "begun.checkpoints" / "cuts.json"
    kept.parent.mkdir()
    write_json(kept, {"identity": {"keep": 0.1}, "cuts": [{"vision": {}, "text": {}}]})
    begun, name = go("begun", resume=True), "model.safetensors"
    assert (begun / name).read_bytes() == (whole / name).read_bytes()
    assert not kept.parent.exists()


def test_damaged_cuts_are_named(go: Callable[..., Path], tmp_path: Path) -> None:
    kept = tmp_path / "begun.checkpoints" / "cuts.json"
    kept.parent.mkdir()
    write_json(kept, [1])
    with pytest.raises(ArtifactError, match=r"cuts\.json is damaged"):
        go("begun", resume=True)

"""A store and several processes: of one run, each with its shards; of two runs, both reading."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from blip_edge.artifact import read_provenance
from blip_edge.data import Dataset
from blip_edge.models import save_model
from tests.unit.distill import sizes
from tests.unit.training.together import ROOT, Run, together

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "fork") or not torch.distributed.is_gloo_available(),
        reason="needs fork and gloo",
    ),
]

HOW = (
    "steps=4 batch=15 calibration=2 memory=4 hidden_weight=0 negative_all_rank=true views=1 top=0 "
    "vision_layers=1 flip=0.5"
)
CLOSE = 2e-3


@pytest.fixture(scope="module")
def teacher(world: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "retrieval"
    folder.mkdir()
    save_model(folder, sizes.model(world, "retrieval"))
    return folder


def argv(teacher: Path, world: Dataset, output: Path, *more: str) -> list[str]:
    said = ["distill", str(teacher), "--data", str(world.folder), "-q", "--device", "cpu"]
    keys = (word for key in HOW.split() for word in ("--set", key))
    return [*said, *keys, *more, "-o", str(output)]


def test_two_processes_keep_and_read_what_the_teacher_tells_both(
    teacher: Path, world: Dataset, tmp_path: Path
) -> None:
    """The teacher is asked by both at once: its wrong partners come from the other's rows too."""
    stored = ("--store", str(tmp_path / "store"))
    runs: list[Run] = [
        {"argv": argv(teacher, world, tmp_path / name, *more), "world": world_size}
        for name, more, world_size in (
            ("online", (), 2),
            ("stored", stored, 2),
            ("again", stored, 2),
            ("alone", stored, 1),
        )
    ]
    done = together(tmp_path / "together", runs)
    assert [each["codes"] for each in done] == [[0, 0], [0, 0], [0, 0], [3]], done
    assert "processes was 2 and is 1" in done[3]["errors"][0]
    shards = sorted(path.name[:13] for path in (tmp_path / "store").glob("shard-*"))
    assert shards == ["shard-0-00000", "shard-1-00000"]
    online, first = (read_provenance(tmp_path / name).history for name in ("online", "stored"))
    for one, other in zip(online, first, strict=True):
        assert other == pytest.approx(one, rel=CLOSE, abs=CLOSE)
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "stored" / name).read_bytes()


def test_two_runs_may_begin_and_read_one_store(
    teacher: Path, world: Dataset, tmp_path: Path
) -> None:
    stored = ("--store", str(tmp_path / "store"))
    command = [sys.executable, "-m", "blip_edge"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [*command, *argv(teacher, world, tmp_path / name, *stored)], cwd=ROOT, env=environment
        )
        for name in ("one", "two")
    ]
    assert [each.wait(timeout=200) for each in running] == [0, 0]
    name = "model.safetensors"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not list((tmp_path / "store").glob(".*"))

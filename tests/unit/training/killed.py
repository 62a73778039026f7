"""Runs that are killed and resumed, in processes of their own, and what became of them.

One process imports torch and forks everything else, which costs milliseconds instead of seconds:

    python -m tests.unit.training.killed FOLDER
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from blip_edge.data import Dataset
from blip_edge.data.shapes import make
from blip_edge.training import processes
from blip_edge.training.augment import Augmentation
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.best import named_tensors
from blip_edge.training.checkpoints import Checkpoints
from blip_edge.training.course import Course
from blip_edge.training.loop import fit
from blip_edge.training.objectives import PretrainObjective
from blip_edge.training.recipe import TrainRecipe
from tests import tiny

RECIPE = TrainRecipe(task="pretrain", batch=6, lr=3e-3, warmup=4, queue_size=11, momentum=0.9)
STEPS = 24


def train(data: Path, folder: Path, name: str, *, stop: int | None = None) -> None:
    """Train, resuming what is there, and leave `name`-`rank`.json; with `stop` die at that step."""
    rank, world = processes.rank(), processes.world()
    dataset = Dataset.open(data)
    model = tiny.model([row.captions[0] for row in dataset.captions("train")], "BlipForPreTraining")
    objective = PretrainObjective(model.blip, model.tokenizer, RECIPE)
    batches = CaptionBatches(
        *(dataset, dataset.captions("train"), model.tokenizer, model.preprocess),
        batch=RECIPE.batch // world,
        seed=1,
        max_bad=0.5,
        augmentation=Augmentation(),
        workers=1,
        rank=rank,
        world=world,
    )
    torch.manual_seed(rank)
    np.random.seed(rank)
    random.seed(rank)
    points: list[Any] = []

    def metric() -> float:
        # Draws, as an evaluation may, and is best in the middle of the run.
        return float(torch.rand(()) - abs(points[-1]["step"] - 11))

    def listen(point: dict[str, float]) -> None:
        points.append(point)
        if stop is not None and point["step"] >= stop:
            os._exit(9)

    history = fit(
        *(model.blip, objective, batches, RECIPE),
        steps=STEPS,
        description="train",
        course=Course(accumulate=2, ema=0.9),
        evaluate=metric,
        eval_every=6,
        checkpoints=Checkpoints(folder / name, {"lr": RECIPE.lr}, every=2, resume=True),
        on_point=listen,
    )
    digest = hashlib.sha256()
    for key, tensor in sorted((named_tensors(objective) | named_tensors(model.blip)).items()):
        digest.update(key.encode() + tensor.numpy().tobytes())
    drawn = [torch.rand(()).item(), float(np.random.rand()), random.random()]
    found = {"digest": digest.hexdigest(), "history": history, "drawn": drawn}
    left = {"skipped": dict(batches.skipped), "last": len(list((folder / name).iterdir()))}
    (folder / f"{name}-{rank}.json").write_text(json.dumps(found | left))


class Squares(nn.Module):
    """The mean of squares of a linear map: a mean over rows, as data parallelism wants it."""

    def __init__(self, model: nn.Linear) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"l": self.model(batch.pixel_values).square().mean()}


def share(folder: Path, name: str) -> None:
    """Three steps of two batches on this process's share of 48 rows; leave the weights."""
    rank, world = processes.rank(), processes.world()
    torch.manual_seed(0)
    model, rows = nn.Linear(3, 2), torch.randn(6, 8, 3)
    count = torch.arange(8 // world)
    parts = (eight.chunk(world)[rank] for eight in rows)
    batches = [Batch(part, count[:, None], count[:, None], count) for part in parts]
    recipe, course = TrainRecipe(lr=0.1, clip=0.05), Course(accumulate=2)
    how: dict[str, Any] = {"steps": 3, "description": "share", "course": course}
    history = fit(model, Squares(model), batches, recipe, **how)
    left = {"weights": model.weight.flatten().tolist(), "losses": [point["l"] for point in history]}
    (folder / f"{name}-{rank}.json").write_text(json.dumps(left))


def forked(work: Callable[[], None]) -> int:
    """A process that does `work`."""
    if child := os.fork():
        return child
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def killed_until_done(data: Path, folder: Path) -> int:
    """Kill a run at random moments until one gets through, and count."""
    clock, kills = random.Random(0), 0
    while True:
        # A little longer each time, or else a slow machine never gets through.
        patience = clock.uniform(0.1, 0.5) + 0.05 * kills
        child = forked(lambda: train(data, folder, "killed"))
        until = time.monotonic() + patience
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0, "the run failed"
                return kills
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1


def pair(folder: Path, name: str, work: Callable[[], None]) -> list[int]:
    """Two processes of one run; their exit codes."""

    def joined(rank: int) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        dist.init_process_group(
            *("gloo", f"file://{folder / name}.rendezvous"),
            rank=rank,
            world_size=2,
            timeout=timedelta(minutes=2),
        )
        work()
        dist.destroy_process_group()

    children = [forked(partial(joined, rank)) for rank in range(2)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    data = make(folder / "data", tiny.WORLD, seed=5).folder
    (data / "images" / "train" / "000007.png").write_bytes(b"no picture")
    run = partial(train, data, folder)
    alone = [
        os.waitpid(forked(work), 0)[1]
        for work in (partial(run, "whole"), partial(share, folder, "one"))
    ]
    kills = killed_until_done(data, folder)
    pairs = [
        pair(folder, "pair", partial(run, "pair")),
        pair(folder, "stops", partial(run, "stopped", stop=15)),
        pair(folder, "goes on", partial(run, "stopped")),
        pair(folder, "shared", partial(share, folder, "shared")),
    ]
    summary = {"alone": alone, "kills": kills, "pairs": pairs}
    (folder / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What a run does around the loop, of one process among several."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from blip_edge.data import Dataset
from blip_edge.models import Model
from blip_edge.progress import Progress
from blip_edge.training import processes
from blip_edge.training.objectives import Objective
from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.source import Source
from blip_edge.training.work import Begun, Work, carry_out


class _Seen(Exception):
    """Ends a run where training would begin."""


def test_processes_start_from_the_same_weights_and_drop_out_other_parts(
    world: Dataset, captioner: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one mask for all, a batch on several processes would be regularised as one share is."""
    drawn: list[Tensor] = []

    def objective() -> Objective:
        drawn.append(torch.rand(4))
        raise _Seen

    def begin(source: Source, progress: Progress) -> Begun:
        drawn.append(torch.rand(4))
        return Begun(captioner, objective)

    recipe = TrainRecipe(steps=1, batch=4)
    run = Work(verb="x", data=world.folder, output=tmp_path / "x", recipe=recipe, training=recipe)
    for rank in range(2):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        with pytest.raises(_Seen):
            carry_out(run, begin)
    weights, dropout, others_weights, others_dropout = drawn
    assert torch.equal(weights, others_weights)
    assert not torch.equal(dropout, others_dropout)

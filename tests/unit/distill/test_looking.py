"""Attention is compared where a model may look, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from blip_edge.data import Dataset
from blip_edge.distill import objective as objectives
from blip_edge.distill.objective import DistillObjective
from blip_edge.distill.recipe import Imitation
from blip_edge.distill.surgery import everything
from blip_edge.distill.watch import Seen, watching
from blip_edge.models import Blip, Model
from blip_edge.training.batches import Batch
from blip_edge.training.objectives import TaughtObjective
from blip_edge.training.recipe import Task
from blip_edge.training.tasks import objective_of
from tests.unit.distill import sizes

HOW = Imitation(attention_weight=1.0, label_smoothing=0.0)


def objective(teacher: Model, task: Task) -> DistillObjective:
    """Of a student of the same sizes and other weights."""
    student = deepcopy(teacher.blip)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    own = objective_of(teacher.with_blip(student), HOW.of(task, "a "))
    assert isinstance(own, TaughtObjective)
    return DistillObjective(student, teacher.blip, own, HOW, everything(teacher.blip))


@pytest.mark.parametrize("task", sizes.TASKS)
def test_more_padding_is_no_other_loss(world: Dataset, task: Task) -> None:
    """Texts are padded to the longest of their batch: by chance, which teaches nothing."""
    teacher = sizes.model(world, task)
    batch = sizes.batches(world, teacher, task)[0]
    words = ("input_ids", "attention_mask", "answer_ids", "answer_mask")
    there = {name: getattr(batch, name) for name in words if hasattr(batch, name)}
    padded = replace(batch, **{name: F.pad(ids, (0, 4)) for name, ids in there.items()})
    made, found = objective(teacher, task), []
    for one in (batch, padded):
        torch.manual_seed(4)  # of wrong partners
        found.append(deepcopy(made)(one, 0))
    for name in ("attention", "hidden", "logit"):
        torch.testing.assert_close(found[0][name], found[1][name], msg=name)


def test_a_decoder_is_not_taught_to_look_ahead(
    captioner: Model, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other scores of words that it may not see yet are the same attention."""
    made = objective(captioner, "caption")
    before = made(batches[0], 0)["attention"]

    @contextmanager
    def ahead(blip: Blip, **how: Any) -> Iterator[Seen]:
        with watching(blip, **how) as seen:
            yield seen
        for scores in seen.text[0].attention if blip is made.student else ():
            scores.add_(torch.randn_like(scores).triu(1) * 9)

    monkeypatch.setattr(objectives, "watching", ahead)
    torch.testing.assert_close(made(batches[0], 0)["attention"], before)

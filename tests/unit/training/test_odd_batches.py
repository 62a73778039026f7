"""No batch that data can hold stops a run: one row, equal rows, sizes that divide nothing."""

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from blip_edge.models.config import Architecture
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch, DialogBatch, Nlvr2Batch, Step, VqaBatch
from blip_edge.training.objectives import (
    DialogObjective,
    Nlvr2Objective,
    PretrainObjective,
    RetrievalObjective,
    VqaObjective,
)
from blip_edge.training.recipe import TrainRecipe
from tests import tiny

TEXTS = ["a red cat", "two dogs", "is it red", "yes", "a red dog on a mat"]
WORDS = Tokenizer.train(TEXTS, 60)
RECIPE = TrainRecipe(queue_size=5, momentum=0.5)


def ids(rows: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Right-padded ids of different lengths, from two tokens on, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (rows,), generator=generator)
    mask = (torch.arange(tokens)[None] < lengths[:, None]).long()
    return torch.randint(5, 30, (rows, tokens), generator=generator) * mask, mask


def pairs(rows: int, seed: int = 0) -> Batch:
    texts, mask = ids(rows, 6, seed)
    return Batch(torch.randn(rows, 3, 24, 24), texts, mask, torch.arange(rows))


def equal(rows: int) -> Batch:
    """The same picture with the same caption, again and again."""
    one = pairs(1)
    return Batch(*(getattr(one, field.name).repeat_interleave(rows, 0) for field in fields(one)))


def one_text(rows: int) -> Batch:
    """Different pictures, all with one caption."""
    return replace(
        equal(rows), pixel_values=torch.randn(rows, 3, 24, 24), picture=torch.arange(rows)
    )


def contrasting(kind: str) -> nn.Module:
    if kind == "pretrain":
        model = tiny.model(TEXTS, "BlipForPreTraining")
        return PretrainObjective(model.blip.train(), model.tokenizer, RECIPE)
    model = tiny.model(TEXTS, "BlipForImageTextRetrieval")
    everywhere = kind == "retrieval from all"
    return RetrievalObjective(
        model.blip.train(), model.tokenizer, RECIPE, negative_all_rank=everywhere
    )


def trains(task: nn.Module, batch: Step, step: int = 0) -> None:
    """One step: finite losses, and finite gradients that are not all nothing."""
    task.zero_grad()
    losses = task(batch, step)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    found = [p.grad for p in task.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in found)
    assert any(gradient.any() for gradient in found)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["pretrain", "retrieval", "retrieval from all"])
def test_contrasts_take_batches_of_any_size_one_after_another(kind: str, half: bool) -> None:
    task = contrasting(kind)
    for step, rows in enumerate((3, 1, 7, 2, 12, 5)):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            trains(task, pairs(rows, step), step)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("make", [equal, one_text])
@pytest.mark.parametrize("kind", ["pretrain", "retrieval", "retrieval from all"])
def test_contrasts_take_rows_that_have_no_wrong_partner(
    kind: str, make: Callable[[int], Batch], rows: int
) -> None:
    task = contrasting(kind)
    for step in range(2):
        trains(task, make(rows), step)


@pytest.mark.parametrize("kind", ["pretrain", "retrieval"])
def test_contrasts_need_no_queue(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.RECIPE", replace(RECIPE, queue_size=0))
    trains(contrasting(kind), pairs(3))
    one = contrasting(kind)(pairs(1), 0)["itc"]
    assert one.item() == 0.0, "there is nothing to confuse it with"


@pytest.mark.parametrize(("questions", "answers"), [(1, [0]), (3, [0, 2, 2, 1, 2])])
def test_answering_takes_one_question_and_any_number_of_answers(
    questions: int, answers: list[int]
) -> None:
    blip = tiny.lively(tiny.config("BlipForQuestionAnswering", vocab=WORDS.vocab_size)).train()
    batch = VqaBatch(
        torch.randn(questions, 3, 24, 24),
        *ids(questions, 7),
        *ids(len(answers), 4, seed=1),
        question=torch.tensor(answers),
        weights=torch.full((len(answers),), 0.2),
    )
    trains(VqaObjective(blip, WORDS, RECIPE), batch)


def test_answering_takes_clips() -> None:
    blip = tiny.lively(tiny.config("BlipForQuestionAnswering", vocab=WORDS.vocab_size)).train()
    batch = VqaBatch(
        torch.randn(2, 4, 3, 24, 24),
        *ids(2, 7),
        *ids(2, 4),
        question=torch.arange(2),
        weights=torch.ones(2),
    )
    trains(VqaObjective(blip, WORDS, RECIPE), batch)


@pytest.mark.parametrize("rows", [1, 3])
def test_judging_takes_one_sentence(rows: int) -> None:
    architecture: Architecture = "BlipForImagesAndTextClassification"
    blip = tiny.lively(tiny.config(architecture, vocab=WORDS.vocab_size)).train()
    batch = Nlvr2Batch(
        torch.randn(rows, 3, 24, 24),
        torch.randn(rows, 3, 24, 24),
        *ids(rows, 7),
        labels=torch.ones(rows).long(),
    )
    trains(Nlvr2Objective(blip, WORDS), batch)


@pytest.mark.parametrize(("pictures", "texts"), [(1, 1), (2, 3)])
def test_dialogs_take_one_answer(pictures: int, texts: int) -> None:
    sizes = tiny.config("BlipForImageTextRetrieval", vocab=WORDS.vocab_size)
    wide = replace(sizes, text_config=replace(sizes.text_config, hidden_size=32))
    batch = DialogBatch(
        torch.randn(pictures, 3, 24, 24),
        *ids(pictures, 5),
        *ids(pictures * texts, 9, seed=1),
        labels=torch.arange(pictures * texts) % 2,
    )
    trains(DialogObjective(tiny.lively(wide).train(), WORDS), batch)


def test_a_batch_moves_as_a_whole() -> None:
    moved = pairs(2).to(torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {getattr(moved, field.name).device.type for field in fields(moved)} == {"meta"}

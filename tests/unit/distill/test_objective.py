"""A student's losses in every task: 0 for the teacher itself, and no gradient for the teacher."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blip_edge.data import Dataset
from blip_edge.distill.losses import logit_loss
from blip_edge.distill.objective import DistillObjective
from blip_edge.distill.recipe import Imitation
from blip_edge.distill.surgery import Keep, LayerKeep, cut, everything
from blip_edge.distill.told import Taught, asked_first
from blip_edge.distill.watch import watching
from blip_edge.errors import UsageError
from blip_edge.models import Blip, Model
from blip_edge.training.batches import Batch
from blip_edge.training.loop import fit
from blip_edge.training.objectives import TaughtObjective
from blip_edge.training.objectives.matching import Pairs
from blip_edge.training.recipe import Task
from blip_edge.training.tasks import objective_of
from tests import tiny
from tests.unit.distill import sizes

ALL = Imitation(
    task_weight=1.0,
    logit_weight=1.0,
    affinity_weight=1.0,
    hidden_weight=1.0,
    attention_weight=1.0,
    contrastive_weight=1.0,
    label_smoothing=0.0,
)
OWN = {
    "caption": {"lm"},
    "retrieval": {"itc", "itm"},
    "vqa": {"lm"},
    "pretrain": {"itc", "itm", "lm"},
    "nlvr2": {"cls"},
}
KNOWN = {"logit", "hidden", "attention", "contrastive"}
# Sums in another order.
ZERO = 1e-6


def compared(task: Task) -> set[str]:
    return {"affinity"} if task in ("retrieval", "pretrain") else set()


def objective(
    student: Blip,
    teacher: Model,
    task: Task,
    recipe: Imitation = ALL,
    keep: Keep | None = None,
) -> DistillObjective:
    own = objective_of(teacher.with_blip(student), recipe.of(task, "a "))
    assert isinstance(own, TaughtObjective)
    whole = keep or everything(teacher.blip)
    return DistillObjective(student, teacher.blip, own, recipe, whole)


def narrowed(teacher: Blip) -> tuple[Blip, Keep]:
    """A layer of the image tower, and some channels, heads and neurons of both towers."""
    keep = everything(teacher)
    keep = replace(
        keep,
        vision={1: LayerKeep([0, 2, 3], [], list(range(8, 48)))},
        text={0: keep.text[0], 1: LayerKeep([1], [2, 3], list(range(16)))},
        vision_channels=[i for i in range(32) if i % 4],
        text_channels=[i for i in range(16) if i not in (2, 9)],
        embed=[0, 1, 2, 3, 4],
    )
    return cut(teacher, keep), keep


def shaken(blip: Blip) -> Blip:
    other = deepcopy(blip)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name != "temp":
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return other


@pytest.mark.parametrize("memory", [0, 5])
@pytest.mark.parametrize("task", sizes.TASKS)
def test_the_teacher_itself_has_nothing_to_learn(world: Dataset, task: Task, memory: int) -> None:
    teacher = sizes.model(world, task)
    made = objective(deepcopy(teacher.blip), teacher, task, replace(ALL, memory=memory))
    for step, batch in enumerate(sizes.batches(world, teacher, task, 2)):
        losses = made(batch, step)
        assert set(losses) == OWN[task] | KNOWN | compared(task)
        for name in ("logit", "affinity", "hidden", "attention"):
            if name in losses:
                assert losses[name].item() == pytest.approx(0, abs=ZERO * 4), name


@pytest.mark.parametrize("task", sizes.TASKS)
def test_every_loss_is_heard_by_the_student_and_none_by_the_teacher(
    world: Dataset, task: Task
) -> None:
    teacher = sizes.model(world, task)
    student, keep = narrowed(teacher.blip)
    before = {name: tensor.clone() for name, tensor in teacher.blip.state_dict().items()}
    made = objective(student, teacher, task, ALL, keep)
    losses = made(sizes.batches(world, teacher, task)[0], 0)
    assert set(losses) == OWN[task] | KNOWN | compared(task)
    for name, loss in losses.items():
        assert loss.ndim == 0 and loss.isfinite() and loss > 0, name
        made.zero_grad()
        loss.backward(retain_graph=True)
        assert any(p.grad is not None and p.grad.any() for p in student.parameters()), name
    assert all(parameter.grad is None for parameter in teacher.blip.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.blip.parameters())
    assert all(torch.equal(before[name], t) for name, t in teacher.blip.state_dict().items())
    made.train()
    assert student.training and not teacher.blip.training, "a teacher must not drop units at random"


@pytest.mark.parametrize("task", sizes.TASKS)
@pytest.mark.parametrize("weights", [{}, {"hidden_weight": 0.0}, {"contrastive_weight": 0.0}])
def test_nothing_that_is_trained_is_left_without_a_gradient(
    world: Dataset, task: Task, weights: dict[str, Any]
) -> None:
    """Several processes would wait for it for ever."""
    teacher = sizes.model(world, task)
    student, keep = narrowed(teacher.blip)
    made = objective(student, teacher, task, replace(ALL, **weights), keep)
    losses = made(sizes.batches(world, teacher, task)[0], 0)
    torch.stack(list(losses.values())).sum().backward()
    trained = {name for name, p in made.named_parameters() if p.requires_grad}
    silent = {name for name, p in made.named_parameters() if p.requires_grad and p.grad is None}
    assert not silent
    theirs = {id(p) for p in teacher.blip.parameters()}
    assert not theirs & {id(p) for p in made.parameters()}
    mine = {f"student.{name}" for name, _ in student.named_parameters()}
    widened = {"widen.vision.weight", "widen.text.weight"} - (
        {"widen.text.weight"} if weights == {"hidden_weight": 0.0} else set()
    )
    assert trained == mine | widened


def test_a_projector_starts_as_the_channels_that_were_inherited(world: Dataset) -> None:
    teacher = sizes.model(world, "caption")
    student, keep = narrowed(teacher.blip)
    made = objective(student, teacher, "caption", ALL, keep)
    for tower, channels, width in (
        ("vision", keep.vision_channels, 32),
        ("text", keep.text_channels, 16),
    ):
        assert channels is not None
        x = torch.randn(2, 3, len(channels))
        wide = made.widen[tower](x)
        assert wide.shape == (2, 3, width)
        assert torch.equal(wide[..., channels], x)
        lost = [i for i in range(width) if i not in channels]
        assert not wide[..., lost].any()


def test_a_projector_is_trained_beside_the_student(world: Dataset) -> None:
    teacher = sizes.model(world, "caption")
    student, keep = narrowed(teacher.blip)
    recipe = replace(ALL, lr=1e-2)
    made = objective(student, teacher, "caption", recipe, keep)
    weight = made.get_parameter("widen.text.weight")
    before = weight.detach().clone()
    rows = sizes.batches(world, teacher, "caption", 3)
    fit(student, made, rows, recipe, steps=3, description="test")
    assert (weight - before).abs().max() > 1e-3


@pytest.mark.parametrize("task", sizes.TASKS)
def test_what_is_learned_is_what_the_task_alone_minimises(world: Dataset, task: Task) -> None:
    """`learn` says what `forward` does, and its logits are those that `ask` gets of the same."""
    model = sizes.model(world, task)
    batch = sizes.batches(world, model, task)[0]
    found = []
    for call in ("forward", "learn"):
        torch.manual_seed(4)
        own: Any = objective_of(model, sizes.training(task))
        found.append(getattr(own, call)(batch, 0))
    losses, said = found[1]
    assert found[0].keys() == losses.keys() == OWN[task]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, found[0][name], rtol=0, atol=0)
    again = own.ask(model.blip, batch, said)
    assert again.logits.keys() == said.logits.keys()
    for name, logits in said.logits.items():
        assert logits.ndim == 2
        torch.testing.assert_close(again.logits[name], logits)
    if task in ("retrieval", "pretrain"):
        torch.testing.assert_close(again.features, said.features)
        assert len(said.logits["itm"]) == len(said.pairs.texts)


def test_answers_count_as_people_gave_them(world: Dataset) -> None:
    """Each word of an answer by its answer's weight, against one answer at a time."""
    teacher = sizes.model(world, "vqa")
    student = shaken(teacher.blip)
    batch = sizes.batches(world, teacher, "vqa")[0]
    weights = torch.linspace(0.1, 1.0, len(batch.weights))
    batch = replace(batch, weights=weights)
    made = objective(student, teacher, "vqa", replace(ALL, temperature=1.5))
    with torch.no_grad():
        got = made(batch, 0)["logit"]
        total, count = torch.zeros(()), torch.zeros(())
        for number, weight in enumerate(weights):
            one = replace(
                batch,
                answer_ids=batch.answer_ids[number : number + 1],
                answer_mask=batch.answer_mask[number : number + 1],
                question=batch.question[number : number + 1],
                weights=weights[number : number + 1],
            )
            own: Any = made.task
            said = own.learn(one, 0)[1]
            theirs = own.ask(teacher.blip, one, said)
            words = len(said.logits["lm"])
            assert words == int(one.answer_mask.sum()) - 1
            each = logit_loss(said.logits["lm"], theirs.logits["lm"], temperature=1.5)
            total, count = total + weight * words * each, count + weight * words
    torch.testing.assert_close(got, total / count)


def test_padding_and_prompt_do_not_count(captioner: Model, batches: list[Batch]) -> None:
    """Only the hidden states of words and the predictions after the prompt are compared."""
    student = shaken(captioner.blip)
    batch = batches[0]
    rows = len(batch.input_ids)
    wider = Batch(
        batch.pixel_values,
        torch.cat([batch.input_ids, torch.full((rows, 3), captioner.tokenizer.pad)], dim=1),
        torch.cat([batch.attention_mask, torch.zeros(rows, 3).long()], dim=1),
        batch.picture,
    )
    made = objective(student, captioner, "caption", replace(ALL, attention_weight=0.0))
    narrow, wide = made(batch, 0), made(wider, 0)
    for name, loss in narrow.items():
        torch.testing.assert_close(wide[name], loss, msg=name)


def test_weights_scale_their_losses(captioner: Model, batches: list[Batch]) -> None:
    student = deepcopy(captioner.blip)
    with torch.no_grad():
        student.vision_model.post_layernorm.bias.add_(0.5)
        student.vision_model.blocks[0].layer_norm1.bias.add_(0.5)
    names = [f"{name}_weight" for name in ("task", "affinity", *sorted(KNOWN))]
    weights: list[dict[str, Any]] = [dict.fromkeys(names, weight) for weight in (1.0, 2.0)]
    losses = [
        objective(student, captioner, "caption", replace(ALL, **each))(batches[0], 0)
        for each in weights
    ]
    for name, loss in losses[0].items():
        assert loss > 0
        torch.testing.assert_close(losses[1][name], 2 * loss)


@pytest.mark.parametrize("name", ["logit", "affinity", "hidden", "attention", "contrastive"])
def test_a_loss_without_weight_is_not_there(world: Dataset, name: str) -> None:
    teacher = sizes.model(world, "retrieval")
    without: dict[str, Any] = {f"{name}_weight": 0.0}
    recipe = replace(ALL, **without)
    made = objective(shaken(teacher.blip), teacher, "retrieval", recipe)
    losses = made(sizes.batches(world, teacher, "retrieval")[0], 0)
    assert set(losses) == {"itc", "itm", "affinity", *KNOWN} - {name}


@pytest.mark.parametrize("task", ["retrieval", "pretrain"])
def test_a_teacher_that_is_asked_first_chooses_the_wrong_partners(
    world: Dataset, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = sizes.model(world, task)
    recipe = replace(ALL, hidden_weight=0.0, attention_weight=0.0)
    own = objective(shaken(teacher.blip), teacher, task, recipe)
    made = DistillObjective(
        own.student, teacher.blip, own.task, recipe, everything(teacher.blip), asks_first=True
    )
    heard: list[Pairs] = []
    learn = made.task.learn

    def spied(batch: Any, step: int, pairs: Pairs | None = None) -> Any:
        losses, said = learn(batch, step, pairs)
        assert said.pairs is not None
        heard.append(said.pairs)
        return losses, said

    monkeypatch.setattr(made.task, "learn", spied)
    batch = sizes.batches(world, teacher, task)[0]
    told = asked_first(made.task, teacher.blip, batch, pad=0)[0]
    assert told.pairs is not None
    chosen = Pairs(*(index.flip(0) for index in told.pairs))  # as nobody would choose them
    made(Taught(batch, replace(told, pairs=chosen)), 0)
    assert all(torch.equal(a, b) for a, b in zip(heard[0], chosen, strict=True))
    made(batch, 0)
    assert all(torch.equal(a, b) for a, b in zip(heard[1], told.pairs, strict=True))


def test_affinities_reach_into_former_batches(world: Dataset) -> None:
    teacher = sizes.model(world, "retrieval")
    student = shaken(teacher.blip)
    rows = sizes.batches(world, teacher, "retrieval", 2)
    with torch.no_grad():
        losses = {}
        for memory in (0, 4):
            made = objective(student, teacher, "retrieval", replace(ALL, memory=memory))
            losses[memory] = [made(batch, step)["affinity"] for step, batch in enumerate(rows)]
        views: dict[str, list[list[Tensor]]] = {"mine": [], "theirs": []}
        for batch in rows:
            for who, blip in (("mine", student), ("theirs", teacher.blip)):
                image = blip.embed_image(blip.vision_model(batch.pixel_values))
                views[who].append([image, blip.embed_text(batch.input_ids, batch.attention_mask)])
    expected = torch.zeros(())
    for kind in (0, 1):
        shares = []
        for who, blip in (("mine", student), ("theirs", teacher.blip)):
            before, now = views[who]
            others = torch.cat([now[1 - kind], before[1 - kind][[4, 5, 2, 3]]])
            shares.append((now[kind] @ others.T / blip.temp).log_softmax(-1))
        q, p = shares
        expected = expected + (p.exp() * (p - q)).sum(-1).mean() / 2
    torch.testing.assert_close(losses[4][1], expected)
    assert losses[0][1] != losses[4][1]


def test_views_of_former_batches_are_remembered(captioner: Model, batches: list[Batch]) -> None:
    student = shaken(captioner.blip)
    made = objective(student, captioner, "caption", replace(ALL, memory=6))
    with torch.no_grad():
        for step, batch in enumerate(batches):
            made(batch, step)
        with watching(captioner.blip, pad=0, attention=False) as seen:
            captioner.blip.vision_model(batches[1].pixel_values)
    right = seen.vision[0].hidden[-1].mean(1)
    torch.testing.assert_close(made.views.items, right)


def test_equal_pictures_are_no_rivals_in_a_large_batch(world: Dataset) -> None:
    """Answers and sentences do not number their pictures: what looks alike is the same one."""
    teacher = sizes.model(world, "nlvr2")
    batch = sizes.batches(world, teacher, "nlvr2", batch=16)[0]
    one = batch.left[:1].expand(16, -1, -1, -1)
    made = objective(shaken(teacher.blip), teacher, "nlvr2")
    loss = made(replace(batch, left=one, right=one), 0)["contrastive"]
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", sizes.TASKS)
def test_a_student_of_smaller_pictures_sees_them_shrunk(world: Dataset, task: Task) -> None:
    teacher = sizes.model(world, task)
    config = teacher.config
    small = replace(config, vision_config=replace(config.vision_config, image_size=16))
    student = tiny.lively(small)
    made = objective(student, teacher, task, replace(ALL, attention_weight=0.0))
    seen: list[Tensor] = []
    student.vision_model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = sizes.batches(world, teacher, task)[0]
    losses = made(batch, 0)
    assert set(losses) == (OWN[task] | KNOWN | compared(task)) - {"attention"}
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    given = torch.cat([batch.left, batch.right]) if task == "nlvr2" else batch.pixel_values
    wanted = F.interpolate(given, size=(16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(seen[0], wanted)
    with pytest.raises(UsageError, match=r"compares token by token.*set it to 0"):
        objective(student, teacher, task)


@pytest.mark.parametrize(
    ("theirs", "layers"), [((8, 8, 8), [1, 2]), ((8, 6, 5), [0, 2]), ((8, 6, 5), [2])]
)
def test_attention_to_other_tokens_is_not_compared(
    theirs: tuple[int, ...], layers: list[int]
) -> None:
    """A layer may leave as many tokens as the teacher's and still look at more."""
    blip = tiny.lively(sizes.config(vision={"tokens_kept": theirs}))
    keep = everything(blip)
    keep = replace(keep, vision={i: keep.vision[i] for i in layers})
    task: Any = None
    with pytest.raises(UsageError, match="attention_weight"):
        DistillObjective(cut(blip, keep), blip, task, ALL, keep)
    DistillObjective(cut(blip, keep), blip, task, replace(ALL, attention_weight=0.0), keep)


def test_merged_tokens_are_compared_by_their_means(world: Dataset) -> None:
    teacher = sizes.model(world, "caption")
    config = teacher.config
    merged = replace(config, vision_config=replace(config.vision_config, tokens_kept=(8, 5)))
    student = Blip(merged)
    student.load_state_dict(teacher.blip.state_dict())
    recipe = replace(ALL, attention_weight=0.0, contrastive_weight=0.0)
    losses = objective(student.eval(), teacher, "caption", recipe)(
        sizes.batches(world, teacher, "caption")[0], 0
    )
    assert losses["hidden"].isfinite() and losses["hidden"] > 0

"""A student's losses: at their floor for the teacher itself, and no gradient for the teacher."""

from copy import deepcopy

import pytest
import torch

from blip_edge.distill.objective import DistillObjective
from blip_edge.distill.recipe import DistillRecipe, Imitation, PruneRecipe
from blip_edge.distill.surgery import Keep, cut, everything
from blip_edge.errors import UsageError
from blip_edge.models import Blip, Model
from blip_edge.training.batches import Batch

EQUAL = Imitation(task_weight=0.0, logit_weight=1.0, hidden_weight=1.0, contrastive_weight=0.0)


def objective(
    student: Blip, teacher: Blip, model: Model, recipe: Imitation, layers: list[int]
) -> DistillObjective:
    return DistillObjective(
        student,
        teacher,
        model.tokenizer,
        recipe,
        vision_layers=layers,
        text_layers=layers,
        prompt=model.generation.prompt,
    )


def test_the_teacher_itself_has_nothing_to_learn(captioner: Model, batches: list[Batch]) -> None:
    student = deepcopy(captioner.blip)
    losses = objective(student, captioner.blip, captioner, EQUAL, [0, 1])(batches[0], 0)
    assert losses["logit"].item() == pytest.approx(0, abs=1e-6)
    assert losses["hidden"].item() == pytest.approx(0, abs=1e-6)


def test_gradients_reach_the_student_and_never_the_teacher(
    captioner: Model, batches: list[Batch]
) -> None:
    teacher = captioner.blip
    keep = everything(teacher)
    student = cut(teacher, Keep({1: keep.vision[1]}, {0: keep.text[0]}))
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    made = DistillObjective(
        student,
        teacher,
        captioner.tokenizer,
        Imitation(),
        vision_layers=[1],
        text_layers=[0],
        prompt="a ",
    )
    losses = made(batches[0], 0)
    assert list(losses) == ["lm", "logit", "hidden", "contrastive"]
    for loss in losses.values():
        student.zero_grad()
        loss.backward(retain_graph=True)
        assert any(p.grad is not None and p.grad.any() for p in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], t) for name, t in teacher.state_dict().items())
    made.train()
    assert student.training and not teacher.training, "a teacher must not drop units at random"
    assert {id(p) for p in made.parameters()} == {id(p) for p in student.parameters()}


def test_padding_and_prompt_do_not_count(captioner: Model, batches: list[Batch]) -> None:
    """Only the hidden states of words and the predictions after the prompt are compared."""
    teacher = captioner.blip
    student = deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = batches[0]
    wider = Batch(
        batch.pixel_values,
        torch.cat([batch.input_ids, torch.full((6, 3), 7)], dim=1),
        torch.cat([batch.attention_mask, torch.zeros(6, 3).long()], dim=1),
        batch.picture,
    )
    made = objective(student, teacher, captioner, Imitation(), [0, 1])
    narrow, wide = made(batch, 0), made(wider, 0)
    for name, loss in narrow.items():
        torch.testing.assert_close(wide[name], loss, msg=name)


def test_weights_scale_their_losses(captioner: Model, batches: list[Batch]) -> None:
    student = deepcopy(captioner.blip)
    with torch.no_grad():
        student.vision_model.post_layernorm.bias.add_(0.5)
    single, double = (
        Imitation(
            task_weight=weight,
            logit_weight=weight,
            hidden_weight=weight,
            contrastive_weight=weight,
        )
        for weight in (1.0, 2.0)
    )
    losses = [
        objective(student, captioner.blip, captioner, recipe, [0, 1])(batches[0], 0)
        for recipe in (single, double)
    ]
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], 2 * loss)


@pytest.mark.parametrize(
    "wrong",
    [
        {"task_weight": -0.1},
        {"task_weight": 0.0, "logit_weight": 0.0, "hidden_weight": 0.0, "contrastive_weight": 0.0},
        {"temperature": 0.0},
        {"contrastive_temperature": -1.0},
        {"calibration": 0},
        {"label_smoothing": 1.5},
        {"keep": 0.0},
        {"keep": 1.5},
    ],
)
def test_a_prune_recipe_of_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        PruneRecipe(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"vision_layers": 0}, {"text_layers": 0}, {"keep_heads": 0}, {"keep_neurons": 1.1}]
)
def test_a_student_of_nonsense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        DistillRecipe(**wrong)  # type: ignore[arg-type]

"""What each task minimises, and which weights hear of it."""

from itertools import islice

import pytest
import torch
from torch import Tensor

from blip_edge.data import Dataset
from blip_edge.models import Blip, Model
from blip_edge.models.attention import Cross
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.losses import lm_loss
from blip_edge.training.objectives import CaptionObjective, PretrainObjective, RetrievalObjective
from blip_edge.training.recipe import TrainRecipe

RECIPE = TrainRecipe(
    task="pretrain", queue_size=16, momentum=0.5, alpha=0.4, alpha_warmup=10, label_smoothing=0.0
)


def batch_of(world: Dataset, model: Model, rows: int, prompt: str = "") -> Batch:
    batches = CaptionBatches(
        world,
        world.captions("train"),
        model.tokenizer,
        model.preprocess,
        batch=rows,
        seed=0,
        prompt=prompt,
    )
    return next(islice(batches, 1))


def heard(blip: Blip) -> set[str]:
    """The parts that got a gradient."""
    names = [name for name, p in blip.named_parameters() if p.grad is not None and p.grad.any()]
    return {name.split(".")[0] for name in names}


def test_captions_are_learned_after_their_prompt(world: Dataset, captioner: Model) -> None:
    recipe = TrainRecipe(prompt="a picture of ", label_smoothing=0.0)
    batch = batch_of(world, captioner, 4, recipe.prompt)
    loss = CaptionObjective(captioner.blip, captioner.tokenizer, recipe)(batch, 0)["lm"]
    tokens = captioner.blip.vision_model(batch.pixel_values)
    logits = captioner.blip.lm_logits(batch.first(captioner.tokenizer.dec), tokens)
    start = len(captioner.tokenizer.prompt_ids(recipe.prompt))
    shares = logits.log_softmax(-1)
    # The sum over what comes after the prompt, written out.
    total, count = torch.zeros(()), 0
    for row in range(4):
        for place in range(start, int(batch.attention_mask[row].sum())):
            total = total - shares[row, place - 1, batch.input_ids[row, place]]
            count += 1
    torch.testing.assert_close(loss, total / count)
    loss.backward()
    assert heard(captioner.blip) == {"vision_model", "text_decoder"}


def test_pretraining_has_three_losses_and_reaches_every_part(
    world: Dataset, pretrained: Model
) -> None:
    objective = PretrainObjective(pretrained.blip, pretrained.tokenizer, RECIPE)
    losses = objective(batch_of(world, pretrained, 6), 0)
    assert list(losses) == ["itc", "itm", "lm"]
    assert all(loss.ndim == 0 and loss.isfinite() and loss > 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert heard(pretrained.blip) == {name.split(".")[0] for name in pretrained.blip.state_dict()}
    assert not any(parameter.requires_grad for parameter in objective.contrast.slow.parameters())


def test_each_loss_reaches_what_it_is_about(world: Dataset, pretrained: Model) -> None:
    blip = pretrained.blip
    objective = PretrainObjective(blip, pretrained.tokenizer, RECIPE)
    batch = batch_of(world, pretrained, 6)
    parts = {}
    for name in ("itc", "itm"):
        blip.zero_grad(set_to_none=True)
        objective(batch, 0)[name].backward()
        parts[name] = heard(blip)
    assert {"vision_proj", "text_proj", "temp"} <= parts["itc"]
    assert "itm_head" in parts["itm"]
    assert "itm_head" not in parts["itc"] and "temp" not in parts["itm"]


def test_the_contrast_by_hand(world: Dataset, pretrained: Model) -> None:
    """At step 0 the soft targets weigh nothing: cross-entropy over the batch and the queue."""
    blip = pretrained.blip
    objective = PretrainObjective(blip, pretrained.tokenizer, RECIPE)
    queued = objective.contrast.images.items.clone(), objective.contrast.texts.items.clone()
    batch = batch_of(world, pretrained, 5)
    with torch.no_grad():
        got = objective(batch, 0)["itc"]
        image = blip.embed_image(blip.vision_model(batch.pixel_values))
        text = blip.embed_text(batch.input_ids, batch.attention_mask)
        # The slow copies equal the encoders before anything was learned.
        by_image = image @ torch.cat([text, queued[1]]).T / blip.temp
        by_text = text @ torch.cat([image, queued[0]]).T / blip.temp
        rows = torch.arange(5)
        cross_entropy = torch.nn.functional.cross_entropy
        expected = (cross_entropy(by_image, rows) + cross_entropy(by_text, rows)) / 2
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(objective.contrast.images.items[:5], image)
    torch.testing.assert_close(objective.contrast.texts.items[:5], text)
    assert torch.equal(objective.contrast.images.items[5:], queued[0][5:])


def values(model: Model, batch: Batch) -> Tensor:
    """What the first layer's cross-attention sees of each picture, (B, H, N, K)."""
    return model.blip.encoder.cross(model.blip.vision_model(batch.pixel_values))[0].value


def matched(model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the matching head is asked for a batch: ids, mask, what it sees; and the loss."""
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def certain(ids: Tensor, mask: Tensor, cross: list[Cross]) -> Tensor:
        """Sure that every pair matches."""
        asked.append((ids, mask, cross[0].value))
        return torch.tensor([[-20.0, 20.0]]).repeat(len(ids), 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.blip, "itm_logits", certain)
        objective = PretrainObjective(model.blip, model.tokenizer, RECIPE)
        loss = objective(batch, 0)["itm"]
    return *asked[0], loss


def test_matching_sees_every_pair_and_two_wrong_ones(world: Dataset, pretrained: Model) -> None:
    batch = batch_of(world, pretrained, 6)
    ids, mask, seen, loss = matched(pretrained, batch)
    own = values(pretrained, batch)
    right = batch.first(pretrained.tokenizer.enc)
    assert len(ids) == len(mask) == len(seen) == 18
    assert torch.equal(ids[:6], right) and torch.equal(seen[:6], own)
    assert torch.equal(mask[:6], batch.attention_mask)
    # A picture with another's text, then a text with another's picture.
    assert torch.equal(seen[6:12], own) and torch.equal(ids[12:], right)
    for row in range(6):
        assert not torch.equal(ids[6 + row], right[row])
        assert not torch.equal(seen[12 + row], own[row])
    # Class 1 says that they match: the certain head is wrong by 40 on two thirds.
    assert loss.item() == pytest.approx(40 * 12 / 18)


def test_pictures_of_one_caption_are_no_negatives(world: Dataset, pretrained: Model) -> None:
    """Two red circles are not told apart by "a red circle"; to say they do not match is a lie."""
    batch = batch_of(world, pretrained, 4)
    texts, mask = batch.input_ids.clone(), batch.attention_mask.clone()
    texts[1], mask[1] = texts[0], mask[0]
    equal = Batch(batch.pixel_values, texts, mask, torch.arange(4))
    own = values(pretrained, batch)
    right = equal.first(pretrained.tokenizer.enc)
    for _ in range(10):
        ids, _, seen, _ = matched(pretrained, equal)
        for row in (0, 1):
            assert not torch.equal(ids[4 + row], right[0])
            assert not torch.equal(seen[8 + row], own[1 - row])


def test_only_pretraining_gives_easy_negatives_a_chance(world: Dataset, pretrained: Model) -> None:
    """1e-4 is added to every share there; fine-tuning draws by the shares alone."""
    seen: list[Tensor] = []

    def draw(weights: Tensor) -> Tensor:
        seen.append(weights[weights > 0].min())
        return weights.argmax(-1)

    batch = batch_of(world, pretrained, 8)
    with torch.no_grad():
        pretrained.blip.temp.fill_(0.01)
    for kind in (PretrainObjective, RetrievalObjective):
        kind(pretrained.blip, pretrained.tokenizer, RECIPE, draw=draw)(batch, 0)
    assert len(seen) == 4
    assert min(seen[:2]) > 5e-5 and max(seen[2:]) < 1e-6


def test_soft_targets_come_in_slowly(world: Dataset, pretrained: Model) -> None:
    batch = batch_of(world, pretrained, 5)
    values = []
    for step in (0, 5, 10, 1000):
        torch.manual_seed(0)
        objective = PretrainObjective(pretrained.blip, pretrained.tokenizer, RECIPE)
        values.append(objective(batch, step)["itc"].item())
    assert values[0] != values[1] != values[2] == values[3]


@pytest.mark.parametrize("value", [5.0, -1.0])
def test_the_temperature_is_kept_in_its_bounds(
    world: Dataset, pretrained: Model, value: float
) -> None:
    """A temperature that runs off makes the contrast a NaN hours later."""
    with torch.no_grad():
        pretrained.blip.temp.fill_(value)
    objective = PretrainObjective(pretrained.blip, pretrained.tokenizer, RECIPE)
    objective(batch_of(world, pretrained, 3), 0)
    assert 0.001 <= pretrained.blip.temp.item() <= 0.5


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_without_negatives_still_trains(
    world: Dataset, pretrained: Model, rows: int
) -> None:
    batch = batch_of(world, pretrained, rows)
    alike = Batch(
        batch.pixel_values, batch.input_ids, batch.attention_mask, torch.zeros(rows).long()
    )
    objective = PretrainObjective(pretrained.blip, pretrained.tokenizer, RECIPE)
    losses = objective(alike, 0)
    assert all(loss.isfinite() for loss in losses.values())


def test_pretraining_reads_whole_captions(world: Dataset, pretrained: Model) -> None:
    """Its language model has no prompt to leave out: everything after [DEC] is learned."""
    blip, words = pretrained.blip, pretrained.tokenizer
    batch = batch_of(world, pretrained, 3)
    got = PretrainObjective(blip, words, RECIPE)(batch, 0)["lm"]
    logits = blip.lm_logits(batch.first(words.dec), blip.vision_model(batch.pixel_values))
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    torch.testing.assert_close(got, lm_loss(logits, labels))

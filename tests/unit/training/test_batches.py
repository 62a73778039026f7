"""Batches: the same for a seed, whole words, and no run that dies of one bad file in a million."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from blip_edge.data import CaptionRow, Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models import Model
from blip_edge.progress import SILENT, Progress
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.losses import IGNORED
from blip_edge.training.objectives import caption_labels

Make = Callable[..., CaptionBatches]


@pytest.fixture
def batches(world: Dataset, captioner: Model) -> Make:
    def make(data: Dataset = world, rows: list[CaptionRow] | None = None, **how: Any) -> Any:
        rows = data.captions("train") if rows is None else rows
        how = {"batch": 8, "seed": 1, **how}
        return CaptionBatches(data, rows, captioner.tokenizer, captioner.preprocess, **how)

    return make


@pytest.fixture
def damaged(world: Dataset, tmp_path: Path) -> Dataset:
    """The world with one picture that is a web page."""
    shutil.copytree(world.folder, tmp_path / "world")
    (tmp_path / "world" / "images" / "train" / "000000.png").write_bytes(b"<html>")
    return Dataset.open(tmp_path / "world")


def some(batches: CaptionBatches, count: int) -> list[Batch]:
    return list(islice(batches, count))


def test_the_order_depends_on_the_seed_alone(batches: Make) -> None:
    first, again = some(batches(), 20), some(batches(), 20)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.pixel_values, other.pixel_values)
    others = some(batches(seed=2), 20)
    assert any(not torch.equal(a.picture, b.picture) for a, b in zip(first, others, strict=True))


def test_an_epoch_shows_every_row_once_and_the_next_in_another_order(
    batches: Make, world: Dataset
) -> None:
    made = batches()
    assert made.per_epoch == len(world.captions("train")) // 8 == 15
    seen = torch.cat([batch.picture for batch in some(made, 30)]).reshape(2, -1)
    assert seen[0].bincount().tolist() == seen[1].bincount().tolist() == [5] * 24
    assert not torch.equal(seen[0], seen[1])


def test_each_caption_of_a_picture_is_a_row(batches: Make, world: Dataset) -> None:
    """BLIP's test files list a picture's captions; trained on, all but one went unread."""
    each = world.captions("train")
    texts: dict[str, tuple[str, ...]] = {}
    for row in each:
        texts[row.image] = (*texts.get(row.image, ()), *row.captions)
    listed = [CaptionRow(image, captions, image) for image, captions in texts.items()]
    assert len(listed) < len(each)
    for one, other in zip(
        some(batches(rows=listed), 15), some(batches(rows=each), 15), strict=True
    ):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.picture, other.picture)


def test_shapes_and_types(batches: Make) -> None:
    batch = some(batches(), 1)[0]
    assert batch.pixel_values.shape == (8, 3, 24, 24)
    assert batch.pixel_values.dtype == torch.float32
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64
    assert batch.input_ids.shape == batch.attention_mask.shape


def test_a_row_is_its_picture_and_its_words(
    batches: Make, world: Dataset, captioner: Model
) -> None:
    """Pictures and captions that slip against each other still train, to nothing."""
    rows = world.captions("train")
    truth = {
        (row.image, captioner.tokenizer.decode(captioner.tokenizer.encode([row.captions[0]])[0][0]))
        for row in rows
    }
    pixels = {row.image: captioner.preprocess([world.image_path(row.image)])[0] for row in rows}
    names = list(pixels)
    for batch in some(batches(), 3):
        for number, ids in enumerate(batch.input_ids):
            image = names[int(batch.picture[number])]
            assert torch.equal(batch.pixel_values[number], torch.from_numpy(pixels[image]))
            assert (image, captioner.tokenizer.decode(ids.tolist())) in truth


@pytest.mark.parametrize("prompt", ["a picture of ", "a picture of"])
def test_captions_start_with_the_prompt(batches: Make, captioner: Model, prompt: str) -> None:
    start = captioner.tokenizer.prompt_ids(prompt)
    for batch in some(batches(prompt=prompt), 2):
        ids = batch.first(captioner.tokenizer.dec)
        assert (ids[:, : len(start)] == torch.tensor(start)).all()


def test_another_first_token_leaves_the_batch_alone(batches: Make, captioner: Model) -> None:
    batch = some(batches(), 1)[0]
    decoded = batch.first(captioner.tokenizer.dec)
    assert (decoded[:, 0] == captioner.tokenizer.dec).all()
    assert (batch.input_ids[:, 0] == captioner.tokenizer.cls).all()
    assert torch.equal(decoded[:, 1:], batch.input_ids[:, 1:])


def test_labels_leave_out_prompt_and_padding_and_keep_the_end(captioner: Model) -> None:
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 10, 13, 3, 0]])
    mask = (ids > 0).long()
    batch = Batch(torch.zeros(2, 3, 24, 24), ids, mask, torch.tensor([0, 1]))
    x = IGNORED
    assert caption_labels(batch, 2).tolist() == [[x, x, 11, 12, 3], [x, x, 13, 3, x]]
    assert batch.input_ids is ids and ids[0, 0] == 2


def test_long_texts_are_cut(batches: Make, captioner: Model) -> None:
    batch = some(batches(max_length=4), 1)[0]
    assert batch.input_ids.shape[1] == 4
    assert (batch.input_ids[:, 3] == captioner.tokenizer.sep).all()
    words = some(batches(max_words=1), 1)[0]
    texts = [captioner.tokenizer.decode(ids.tolist()) for ids in words.input_ids]
    assert all(len(text.split()) == 1 for text in texts)


def test_fewer_rows_than_a_batch_are_one_batch(batches: Make, world: Dataset) -> None:
    made = batches(rows=world.captions("train")[:3], batch=64)
    assert made.per_epoch == 1
    assert len(some(made, 1)[0].picture) == 3


def test_a_damaged_picture_is_skipped_and_counted(batches: Make, damaged: Dataset) -> None:
    made = batches(damaged, max_bad=0.1)
    sizes = [len(batch.picture) for batch in some(made, made.per_epoch)]
    assert sum(sizes) == 24 * 5 - 5
    bad = damaged.captions("train")[0].image
    assert list(made.skipped) == [bad]
    assert "cannot be decoded" in made.skipped[bad]
    made.report(damaged.folder, SILENT)
    listed = [
        json.loads(row) for row in (damaged.folder / "skipped.jsonl").read_text().splitlines()
    ]
    assert listed == [{"image": bad, "reason": made.skipped[bad]}]


def test_nothing_is_listed_when_nothing_was_skipped(batches: Make, tmp_path: Path) -> None:
    batches().report(tmp_path, SILENT)
    assert not list(tmp_path.iterdir())


def test_too_many_damaged_pictures_stop_the_run(batches: Make, damaged: Dataset) -> None:
    made = batches(damaged, max_bad=0.01)
    with pytest.raises(ArtifactError, match=r"1 of 24 pictures cannot be read.*max_bad = 0\.01"):
        some(made, made.per_epoch)


def test_nothing_but_damage_is_an_error_and_no_endless_loop(batches: Make, world: Dataset) -> None:
    rows = [replace(row, image="gone.png") for row in world.captions("train")]
    with pytest.raises(ArtifactError, match="none of the pictures can be read"):
        some(batches(rows=rows, max_bad=1.0), 1)


def test_a_picture_outside_the_data_set_is_never_read(batches: Make, world: Dataset) -> None:
    rows = [replace(row, image="../../secret.png") for row in world.captions("train")]
    with pytest.raises(ArtifactError, match="leaves the folder"):
        some(batches(rows=rows, max_bad=1.0), 1)


@pytest.mark.parametrize("prompt", ["", "a picture of "])
def test_an_empty_caption_is_left_out_and_listed(
    batches: Make, world: Dataset, tmp_path: Path, prompt: str
) -> None:
    rows = world.captions("train")
    rows[3] = replace(rows[3], captions=(" .!",))
    made = batches(rows=rows, batch=1, prompt=prompt)
    assert made.per_epoch == len(rows) - 1
    assert all(batch.attention_mask.sum() > 2 for batch in some(made, made.per_epoch))
    said: list[str] = []
    progress = SimpleNamespace(say=said.append)
    made.report(tmp_path, cast(Progress, progress))
    listed = json.loads((tmp_path / "skipped.jsonl").read_text())
    assert listed == {"image": rows[3].image, "reason": "its caption ' .!' has no words"}
    assert said == ["warning: 1 rows had nothing to learn; see skipped.jsonl"]


def test_too_many_empty_captions_stop_the_run(batches: Make, world: Dataset) -> None:
    rows = [replace(row, captions=("",)) for row in world.captions("train")]
    with pytest.raises(ArtifactError, match=r"120 of 120 rows .* max_bad = 0\.01 allows"):
        batches(rows=rows)
    with pytest.raises(ArtifactError, match="no captions to train on: its caption"):
        batches(rows=rows, max_bad=1.0)


def test_rows_for_retrieval_are_captions_too(batches: Make, world: Dataset) -> None:
    batch = some(batches(rows=world.retrieval("train"), batch=120), 1)[0]
    assert batch.picture.bincount().tolist() == [5] * 24


def test_no_rows_at_all_are_refused(batches: Make) -> None:
    with pytest.raises(ArtifactError, match="no captions to train on"):
        batches(rows=[])

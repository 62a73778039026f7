"""Feeding: augmented, ahead of time, on several processes and from the middle, the same rows."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blip_edge.data import CaptionRow, Dataset, SentenceRow
from blip_edge.errors import ArtifactError
from blip_edge.models import Model
from blip_edge.preprocess import open_image
from blip_edge.training.augment import Augmentation, apply_change, draw_change
from blip_edge.training.batches import CaptionBatches, Nlvr2Batches, Step
from blip_edge.training.batches.pictures import Damaged, Pictures, hush

Make = Callable[..., CaptionBatches]


@pytest.fixture
def batches(world: Dataset, captioner: Model) -> Make:
    def make(data: Dataset = world, rows: list[CaptionRow] | None = None, **how: Any) -> Any:
        rows = data.captions("train") if rows is None else rows
        how = {"batch": 8, "seed": 1, **how}
        return CaptionBatches(data, rows, captioner.tokenizer, captioner.preprocess, **how)

    return make


def same(one: Step, other: Step) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return all(torch.equal(a, b) for a, b in pairs)


def all_same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_workers_change_nothing(batches: Make, augmentation: Augmentation | None) -> None:
    alone = list(islice(batches(augmentation=augmentation), 35))
    for workers in (1, 3):
        threaded = batches(augmentation=augmentation, workers=workers)
        assert all_same(list(islice(threaded, 35)), alone)


def test_a_run_goes_on_from_any_batch_with_the_same_pixels(batches: Make) -> None:
    how: dict[str, Any] = {"augmentation": Augmentation(min_scale=0.2), "batch": 24}
    whole = list(islice(batches(**how).placed(), 14))
    assert [position for position, _ in whole] == list(range(1, 15))
    for start in (1, 5, 11):
        rest = list(islice(batches(workers=2, **how).placed(start), 14 - start))
        assert [position for position, _ in rest] == list(range(start + 1, 15))
        assert all_same([batch for _, batch in rest], [batch for _, batch in whole[start:]])


def test_passing_over_batches_reads_no_picture(
    batches: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    decode = Pictures.read

    def spy(self: Pictures, image: str, rng: np.random.Generator) -> Any:
        read.append(image)
        return decode(self, image, rng)

    monkeypatch.setattr(Pictures, "read", spy)
    assert next(batches().placed(40))[0] == 41
    assert len(read) == 8


def test_what_is_drawn_depends_on_seed_epoch_and_row(
    world: Dataset, captioner: Model, batches: Make
) -> None:
    rows = [world.captions("train")[0]]
    how = Augmentation(min_scale=0.2)
    made = batches(rows=rows, batch=1, seed=4, augmentation=how)
    path = world.image_path(rows[0].image)
    for epoch, batch in enumerate(islice(made, 3)):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        change = draw_change(how, *image.size, np.random.default_rng((4, epoch, 0)))
        changed = apply_change(image, change, 24)
        assert torch.equal(batch.pixel_values, torch.from_numpy(captioner.preprocess([changed])))


def test_captions_of_one_picture_see_it_changed_each_in_its_way(
    world: Dataset, batches: Make
) -> None:
    rows = [world.captions("train")[0]] * 6
    batch = next(iter(batches(rows=rows, batch=6, augmentation=Augmentation(min_scale=0.1))))
    assert len({pixels.numpy().tobytes() for pixels in batch.pixel_values}) > 3


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_pictures_that_are_not_kept_are_read_again(
    world: Dataset, captioner: Model, augmentation: Augmentation | None
) -> None:
    name = world.captions("train")[0].image
    kept, read = (
        Pictures(world, captioner.preprocess, augmentation, limit=limit) for limit in (1 << 30, 0)
    )
    for _ in range(2):
        pair = [pictures.read(name, np.random.default_rng(5)) for pictures in (kept, read)]
        assert not isinstance(pair[0], Damaged) and not isinstance(pair[1], Damaged)
        assert np.array_equal(pair[0], pair[1])


def test_memory_is_counted_in_bytes(
    world: Dataset, captioner: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pictures differ in size; what is too large for the rest is read again."""
    (tmp_path / "images").mkdir()
    for name, side in (("big", 40), ("small", 10), ("third", 10)):
        Image.new("RGB", (side, side)).save(tmp_path / "images" / f"{name}.png")
    data = replace(world, folder=tmp_path)
    pictures = Pictures(data, captioner.preprocess, Augmentation(), limit=700)
    opened: list[str] = []

    def spy(path: Path) -> Image.Image:
        opened.append(path.stem)
        return open_image(path)

    monkeypatch.setattr("blip_edge.training.batches.pictures.open_image", spy)
    for name in ("big", "small", "third", "big", "small", "third"):
        pictures.read(f"{name}.png", np.random.default_rng(0))
    assert opened == ["big", "small", "third", "big"]


def test_processes_share_the_rows_that_one_would_read(batches: Make) -> None:
    how: dict[str, Any] = {"augmentation": Augmentation()}
    one = list(islice(batches(batch=8, **how), 16))
    two = [
        list(islice(batches(batch=4, rank=rank, world=2, workers=rank, **how), 16))
        for rank in range(2)
    ]
    for whole, *parts in zip(one, *two, strict=True):
        assert torch.equal(whole.picture, torch.cat([part.picture for part in parts]))
        assert torch.equal(whole.pixel_values, torch.cat([part.pixel_values for part in parts]))


def test_a_process_whose_pictures_are_all_damaged_takes_the_next_that_is_not(
    batches: Make, world: Dataset
) -> None:
    rows = world.captions("train")
    gone = [replace(row, image="gone.png") if row.image == rows[0].image else row for row in rows]
    how: dict[str, Any] = {"rows": gone, "batch": 1, "max_bad": 0.5}
    for rank in range(2):
        made = batches(rank=rank, world=2, **how)
        assert [position for position, _ in islice(made.placed(), 120)] == list(range(1, 121))
        assert list(made.skipped) == ["gone.png"]
    alone = [position for position, _ in islice(batches(**how).placed(), 120)]
    assert alone != list(range(1, 121)), "one process leaves the batch out"


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_counted_in_the_order_of_batches(
    batches: Make, world: Dataset, workers: int
) -> None:
    """However far ahead somebody reads, a run stops where it would stop without."""
    names = list(dict.fromkeys(row.image for row in world.captions("train")))
    lost = dict.fromkeys(names[:3])
    rows = [
        replace(row, image=f"lost/{row.image}") if row.image in lost else row
        for row in world.captions("train")
    ]
    made = batches(rows=rows, batch=2, workers=workers, max_bad=2 / 24)
    passed: list[int] = []
    with pytest.raises(ArtifactError, match="3 of 24 pictures cannot be read"):
        passed.extend(position for position, _ in made.placed())
    expected = _stops(rows, 2)
    assert passed[-1] == expected
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def _stops(rows: list[CaptionRow], allowed: int) -> int:
    """The last batch of two that comes before the third lost picture."""
    order, lost = np.random.default_rng(1).permutation(len(rows)), set()
    passed = 0
    for number, pair in enumerate(order.reshape(-1, 2)):
        found = [rows[row].image for row in pair if rows[row].image.startswith("lost")]
        lost.update(found)
        if len(lost) > allowed:
            break
        passed = number + 1 if len(found) < 2 else passed
    return passed


def test_sentences_draw_for_both_pictures_and_stay_repeatable(
    world: Dataset, captioner: Model
) -> None:
    names = list(dict.fromkeys(row.image for row in world.captions("train")))
    rows = [
        SentenceRow(str(n), "the left one", True, (a, b))
        for n, (a, b) in enumerate(zip(names, reversed(names), strict=True))
    ]

    def made(workers: int) -> list[Any]:
        batches = Nlvr2Batches(
            *(world, rows, captioner.tokenizer, captioner.preprocess),
            batch=5,
            seed=2,
            swap=0.5,
            workers=workers,
            augmentation=Augmentation(),
        )
        return list(islice(batches, 9))

    assert all_same(made(0), made(3))


def test_warnings_come_back_when_the_last_thread_is_done() -> None:
    before = list(warnings.filters)
    with hush:
        with hush:
            assert warnings.filters != before
        assert warnings.filters != before
    assert warnings.filters == before

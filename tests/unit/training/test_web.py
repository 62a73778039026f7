"""Pairs out of shards: every one once an epoch, by any number of processes, from any batch on."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blip_edge.data import Dataset
from blip_edge.data.shards import Shards, count_samples
from blip_edge.errors import ArtifactError
from blip_edge.models import Model
from blip_edge.preprocess import Preprocess
from blip_edge.progress import SILENT
from blip_edge.text import Tokenizer
from blip_edge.training.augment import Augmentation
from blip_edge.training.batches import Batch, CaptionBatches, Web
from tests.unit.training.tars import picture, write_tar

SIZES = (1, 9, 4, 6)
WORDS = Tokenizer.train(["a b c d e f g h i j one two"], 60)
Make = Callable[..., CaptionBatches]


def web(folder: Path, sizes: tuple[int, ...] = SIZES, **how: Any) -> Web:
    """Shards of unequal sizes; each pair has a caption and a colour of its own."""
    number = 0
    for shard, size in enumerate(sizes):
        samples = []
        for _ in range(size):
            caption = " ".join("abcdefghij"[int(digit)] for digit in f"{number:03}")
            samples.append((f"{number:06}", picture(number), caption))
            number += 1
        write_tar(folder / f"{shard}.tar", samples)
    names = [folder / f"{shard}.tar" for shard in range(len(sizes))]
    return opened(Shards.open(names, **how))


def opened(shards: Shards) -> Web:
    return Web(shards, {path: count_samples(path) for path in shards.paths})


def alone(source: Web, **how: Any) -> CaptionBatches:
    how = {"batch": 4, "seed": 1, **how}
    return CaptionBatches(None, [], WORDS, Preprocess(size=8), web=source, **how)


def said(batches: list[Batch]) -> list[str]:
    return [WORDS.decode(ids) for batch in batches for ids in batch.input_ids.tolist()]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, f.name), getattr(b, f.name))
        for a, b in zip(one, other, strict=True)
        for f in fields(Batch)
    )


@pytest.mark.parametrize("world", [1, 2, 5])
def test_an_epoch_is_every_pair_once_whoever_reads_it(tmp_path: Path, world: int) -> None:
    source = web(tmp_path)
    made = [alone(source, batch=20 // world, rank=rank, world=world) for rank in range(world)]
    assert {batches.per_epoch for batches in made} == {1}
    for epoch in range(3):
        parts = [list(islice(batches, epoch, epoch + 1)) for batches in made]
        counts = Counter(text for part in parts for text in said(part))
        assert len(counts) == 20
        assert set(counts.values()) == {1}
    firsts = [said(list(islice(made[0], epoch, epoch + 1))) for epoch in range(2)]
    assert firsts[0] != firsts[1]


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any),
    world=st.integers(1, 3),
    batch=st.integers(1, 5),
    rows=st.integers(0, 4),
)
def test_no_process_has_fewer_batches_than_another(
    sizes: list[int], world: int, batch: int, rows: int
) -> None:
    if sum(sizes) < world:
        return
    with TemporaryDirectory() as folder:
        source = web(Path(folder), tuple(sizes), shuffle=3)
        made = [alone(source, batch=batch, rank=rank, world=world) for rank in range(world)]
        two = [list(islice(batches.placed(), 2 * batches.per_epoch)) for batches in made]
        assert len({tuple(position for position, _ in found) for found in two}) == 1
        assert len({tuple(found.rows for _, found in part) for part in two}) == 1


def test_pairs_come_among_a_data_sets_rows(
    world: Dataset, captioner: Model, tmp_path: Path
) -> None:
    rows, source = world.captions("train")[:30], web(tmp_path)

    def made(**how: Any) -> CaptionBatches:
        how = {"batch": 10, "seed": 1, "web": source, **how}
        return CaptionBatches(world, rows, captioner.tokenizer, captioner.preprocess, **how)

    whole = list(islice(made(), 10))
    assert made().per_epoch == 5
    for epoch in range(2):
        batches = whole[5 * epoch : 5 * epoch + 5]
        numbers = torch.cat([batch.picture for batch in batches])
        streamed = numbers[numbers > 1000]
        assert (len(numbers), len(streamed), len(streamed.unique())) == (50, 20, 20)
        assert sum((batch.picture > 1000).any() for batch in batches) > 2, "they are mixed"
    # Two processes read all rows once, and of the pairs as many as there are.
    parts = [made(batch=5, rank=rank, world=2) for rank in range(2)]
    numbers = torch.cat([batch.picture for part in parts for batch in islice(part, 5)])
    assert sorted(numbers[numbers < 1000].tolist()) == sorted(
        int(n) for n in torch.cat([b.picture for b in whole[:5]]) if n < 1000
    )
    assert len(numbers) == 50


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_goes_on_from_any_batch(
    world: Dataset, captioner: Model, tmp_path: Path, workers: int, rank: int
) -> None:
    source = web(tmp_path, shuffle=3)

    def made(workers: int) -> CaptionBatches:
        return CaptionBatches(
            *(world, world.captions("train")[:10], captioner.tokenizer, captioner.preprocess),
            web=source,
            augmentation=Augmentation(min_scale=0.2),
            batch=3,
            seed=1,
            rank=rank,
            world=2,
            workers=workers,
        )

    assert made(0).per_epoch == 5
    whole = list(islice(made(0), 14))
    assert not same(whole[:5], whole[5:10])
    for start in (1, 5, 8):
        rest = list(islice(made(workers).placed(start), 14 - start))
        assert [position for position, _ in rest] == list(range(start + 1, 15))
        assert same([batch for _, batch in rest], whole[start:])


def test_a_part_of_the_shards_an_epoch(tmp_path: Path) -> None:
    made = alone(web(tmp_path, (4, 4, 4, 4), parts=2), batch=8)
    assert made.per_epoch == 1
    even, odd, again = (set(said([batch])) for batch in islice(made, 3))
    assert even == again
    assert (len(even), len(odd), len(even & odd)) == (8, 8, 0)


def test_what_is_damaged_is_left_out_counted_and_listed(tmp_path: Path) -> None:
    good = [(f"{n}", picture(n), "a b") for n in range(40)]
    write_tar(tmp_path / "0.tar", [*good, ("bad", b"no picture", "c"), ("mute", picture(1), "!")])
    cut = write_tar(tmp_path / "1.tar", [(f"x{n}", picture(n), "d e") for n in range(4)])
    cut.write_bytes(cut.read_bytes()[:3000])
    source = opened(Shards.open([tmp_path / "{0..1}.tar"]))
    assert source.total == 44
    made = alone(source, batch=44, max_bad=0.1)
    batch = next(iter(made))
    assert Counter(said([batch])) == {"a b": 40, "d e": 1}
    made.report(tmp_path, SILENT)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    found = {Path(line["image"]).name: line["reason"] for line in lines}
    assert "0.tar: bad: cannot be decoded as a picture" in found["bad"]
    assert found["mute"] == "its caption '!' has no words"
    assert found["1.tar"] == f"{cut} is damaged or truncated: unexpected end of data"
    assert len(lines) == 3
    with pytest.raises(ArtifactError, match="3 of 44 pictures cannot be read, more than max_bad"):
        next(iter(alone(source, batch=44, max_bad=0.05)))


def test_a_process_with_nothing_but_damage_takes_another_pair(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("1", picture(1), "a b"), *[("x", b"none", "c")] * 1])
    source = opened(Shards.open([tmp_path / "0.tar"]))
    for rank in range(2):
        made = alone(source, batch=1, rank=rank, world=2, max_bad=0.5)
        found = list(islice(made.placed(), 6))
        assert [position for position, _ in found] == [1, 2, 3, 4, 5, 6]
        assert set(said([batch for _, batch in found])) == {"a b"}
    write_tar(tmp_path / "0.tar", [("1", b"none", "a b"), ("2", b"none", "a")])
    source = opened(Shards.open([tmp_path / "0.tar"]))
    with pytest.raises(ArtifactError, match="the shards: none of the pictures can be read"):
        list(islice(alone(source, batch=1, max_bad=1.0, rank=1, world=2), 9))


def test_a_tar_that_goes_away_is_damage_and_no_endless_wait(tmp_path: Path) -> None:
    source = web(tmp_path)
    made = alone(source, max_bad=0.9)
    for path in source.shards.paths:
        path.unlink()
    with pytest.raises(ArtifactError, match="none of the pictures can be read"):
        next(iter(made))

"""Shards of pictures and captions: what is read, in which order, and what is wrong with some."""

import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blip_edge.data.shards import (
    Pair,
    Sample,
    Shards,
    _shuffled,
    captions_in,
    count_samples,
    expand,
    read_shard,
)
from blip_edge.errors import ArtifactError, UsageError

Members = Iterable[tuple[str, bytes]]
Write = Callable[..., Path]


def picture(shade: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def sample(key: str, caption: Any) -> Members:
    yield f"{key}.png", picture()
    yield f"{key}.json", json.dumps(caption).encode()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A tar of the given members."""

    def write(name: str, members: Members) -> Path:
        with tarfile.open(tmp_path / name, "w") as archive:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / name

    return write


@pytest.fixture
def ten(write: Write, tmp_path: Path) -> str:
    """Ten shards of three pairs each, by the name that stands for all of them."""
    for shard in range(10):
        members = [
            member
            for number in range(3)
            for member in sample(f"{shard}{number}", {"caption": f"shard {shard} pair {number}"})
        ]
        write(f"{shard:03d}.tar", members)
    return str(tmp_path / "{000..009}.tar")


def pairs(items: Iterable[Pair | ArtifactError]) -> list[Pair]:
    found = list(items)
    assert not [item for item in found if isinstance(item, ArtifactError)]
    return [item for item in found if isinstance(item, Pair)]


def test_samples_are_files_with_one_key(write: Write) -> None:
    path = write(
        "a.tar",
        [
            ("part/1.jpg", picture()),
            ("part/1.json", b'{"caption": " a cat ", "url": "u"}'),
            ("part/1.syn.json", b"not looked at"),
            ("2.json", b'["a dog", {"caption": "a hound"}, "", 3]'),
            ("2.png", picture()),
            ("3.webp", picture()),
            ("3.txt", "un café\n".encode()),
        ],
    )
    found = [item for item in read_shard(path) if isinstance(item, Sample)]
    assert [(item.key, item.captions) for item in found] == [
        ("part/1", ("a cat",)),
        ("2", ("a dog", "a hound")),
        ("3", ("un café",)),
    ]
    assert found[0].image().size == (4, 4)
    assert count_samples(path) == 3
    assert list(captions_in(path)) == ["a cat", "a dog", "a hound", "un café"]


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("1.png", picture())], "1 has neither a .json nor a .txt"),
        ([("1.json", b'{"caption": "a"}')], "1 has no picture"),
        ([("1.png", picture()), ("1.json", b'{"capt')], "1 has a .json that is not valid JSON"),
        ([("1.png", picture()), ("1.json", b'{"text": "a"}')], "1 has no caption"),
        ([("1.png", picture()), ("1.json", b'["", " "]')], "1 has no caption"),
        ([("../1.png", picture()), ("../1.txt", b"a")], "'../1.png' leaves the folder"),
        ([("/etc/1.png", picture()), ("/etc/1.txt", b"a")], "leaves the folder"),
    ],
)
def test_bad_samples_are_named_and_the_next_is_read(
    write: Write, members: list[tuple[str, bytes]], complaint: str
) -> None:
    path = write("a.tar", [*members, *sample("2", {"caption": "good"})])
    error, good = read_shard(path)
    assert isinstance(error, ArtifactError)
    assert count_samples(path) == 2
    assert list(captions_in(path))[-1] == "good"
    assert str(error).startswith(f"{path}: ")
    assert complaint in str(error)
    assert isinstance(good, Sample)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (error,) = read_shard(tmp_path / "a.tar")
    assert "is a link" in str(error)


def test_a_picture_that_is_none_is_named(write: Write) -> None:
    (bad,) = read_shard(write("a.tar", [("1.jpg", b"no picture"), ("1.txt", b"a")]))
    assert isinstance(bad, Sample)
    with pytest.raises(ArtifactError, match=r"a\.tar: 1: cannot be decoded"):
        bad.image()


def test_a_tar_cut_anywhere_is_named(write: Write) -> None:
    path = write("a.tar", [*sample("1", {"caption": "a"}), *sample("2", {"caption": "b"})])
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in [*range(0, end, 256), end, -(-end // 512) * 512]:
        path.write_bytes(whole[:length])
        *samples, last = read_shard(path)
        assert count_samples(path) == len(samples) + 1, length
        assert isinstance(last, ArtifactError), length
        assert "a.tar is damaged or truncated" in str(last)
        assert len(samples) <= 2


def test_a_damaged_header_is_not_taken_for_the_end(write: Write) -> None:
    path = write("a.tar", [*sample("1", {"caption": "a"}), *sample("2", {"caption": "b"})])
    whole = bytearray(path.read_bytes())
    start = whole.index(b"2.png")
    whole[start : start + 200] = b"x" * 200
    path.write_bytes(whole)
    good, error = read_shard(path)
    assert isinstance(good, Sample)
    assert isinstance(error, ArtifactError)


def test_compressed_tars(write: Write, tmp_path: Path) -> None:
    whole = write("a.tar", sample("1", {"caption": "a"})).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole))
    assert len(list(read_shard(tmp_path / "a.tar.gz"))) == 1
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(whole)[:150])
    assert isinstance(list(read_shard(tmp_path / "b.tar.gz"))[-1], ArtifactError)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces(tmp_path: Path, text: str, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert expand([tmp_path / text]) == [tmp_path / name for name in names]
    (tmp_path / names[-1]).unlink()
    with pytest.raises(ArtifactError, match=f"{names[-1]} is missing"):
        expand([tmp_path / text])


def test_an_epoch_is_every_pair_once_in_a_seeded_order(ten: str) -> None:
    shards = Shards.open([ten], seed=1)
    first, second = pairs(shards.pairs(0)), pairs(shards.pairs(1))
    assert first == pairs(shards.pairs(0))
    assert [pair.key for pair in first] != [pair.key for pair in second]
    assert sorted(pair.key for pair in first) == sorted(pair.key for pair in second)
    assert len({pair.key for pair in first}) == 30
    assert pairs(Shards.open([ten], seed=2).pairs(0)) != first


def test_a_fifth_of_the_shards_an_epoch(ten: str) -> None:
    shards = Shards.open([ten], parts=5)
    read = [{pair.shard.name for pair in pairs(shards.pairs(epoch))} for epoch in range(6)]
    assert read[0] == {"000.tar", "005.tar"}
    assert read[3] == {"003.tar", "008.tar"}
    assert read[5] == read[0]


@pytest.mark.parametrize("world", [1, 2, 3, 7, 40])
def test_processes_share_unequal_shards_equally(write: Write, tmp_path: Path, world: int) -> None:
    for shard, size in enumerate([1, 9, 4, 0]):
        keys = (f"{shard}{number}" for number in range(size))
        write(f"{shard}.tar", [m for key in keys for m in sample(key, {"caption": key})])
    shards = Shards.open([tmp_path / "{0..3}.tar"], shuffle=5)
    counts = {path: count_samples(path) for path in shards.paths}
    assert list(counts.values()) == [1, 9, 4, 0]
    bounds = [14 * rank // world for rank in range(world + 1)]
    read = []
    for rank in range(world):
        endless = shards.share(3, counts, rank=rank, world=world)
        read.append(pairs(islice(endless, bounds[rank + 1] - bounds[rank])))
        # Whoever wants more gets the next share, and in the end everything again.
        more = pairs(islice(endless, 3 * 14))
        assert len({pair.key for pair in more}) == 14
    assert len({pair.key for share in read for pair in share}) == 14


def test_a_share_is_another_one_in_every_epoch_and_the_same_again(ten: str) -> None:
    shards = Shards.open([ten], seed=4)
    counts = dict.fromkeys(shards.paths, 3)

    def keys(epoch: int) -> list[str]:
        share = shards.share(epoch, counts, rank=1, world=3)
        return [pair.key for pair in pairs(islice(share, 10))]

    assert keys(0) == keys(0)
    assert set(keys(0)) != set(keys(1))


@pytest.mark.parametrize("options", [{"parts": 11}, {"parts": 0}, {"shuffle": 0}])
def test_options_that_make_no_sense(ten: str, options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Shards.open([ten], **options)


def test_a_candidate_is_drawn_for_each_picture(write: Write) -> None:
    members = [m for n in range(40) for m in sample(f"{n}", ["first", "second"])]
    path = write("a.tar", members)
    shards = Shards.open([path], seed=3)
    said = {pair.key: pair.caption for pair in pairs(shards.pairs(0))}
    assert 8 < Counter(said.values())["first"] < 32
    assert said != {pair.key: pair.caption for pair in pairs(shards.pairs(1))}
    # The same with fewer pictures beside it.
    write("a.tar", members[20:])
    fewer = {pair.key: pair.caption for pair in pairs(shards.pairs(0))}
    assert fewer == {key: said[key] for key in fewer}


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 5))
def test_shuffling_loses_nothing(number: int, size: int, seed: int) -> None:
    from random import Random

    found = list(_shuffled(iter(range(number)), size, Random(seed)))
    assert sorted(found) == list(range(number))

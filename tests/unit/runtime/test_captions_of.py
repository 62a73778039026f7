"""A stream of pictures: captioned as they come, and none of them kept."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.picture_folder import read_ahead
from tests.unit.runtime import toy


@pytest.fixture
def model() -> EdgeModel:
    return EdgeModel(toy.ToyEngine(), toy.tokenizer(), Preprocess(size=toy.SIDE), toy.generation())


class Drawn:
    """Pictures that are drawn when somebody takes them, and how many of them are alive."""

    def __init__(self, count: int) -> None:
        self.count, self.taken, self.alive, self.most = count, 0, 0, 0

    def __iter__(self) -> Iterator[Image.Image]:
        random = np.random.default_rng(0)
        for _ in range(self.count):
            red, green, blue = (int(shade) for shade in random.integers(0, 256, 3))
            picture = Image.new("RGB", (9, 7), (red, green, blue))
            weakref.finalize(picture, self._gone)
            self.taken += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
            yield picture
            del picture

    def _gone(self) -> None:
        self.alive -= 1


def test_a_stream_says_what_a_list_would(model: EdgeModel) -> None:
    expected = model.captions(list(Drawn(41)), 2, beams=3)
    assert [said for _, said in model.captions_of(Drawn(41), 2, beams=3)] == expected
    drawn = model.captions(list(Drawn(7)), 2, sample=True, seed=5)
    assert [said for _, said in model.captions_of(Drawn(7), 2, sample=True, seed=5)] == drawn
    assert list(model.captions_of([])) == []


def test_captions_come_before_the_pictures_end_and_pictures_go(model: EdgeModel) -> None:
    drawn = Drawn(300)
    found = model.captions_of(drawn)
    next(found)
    assert drawn.taken < 10  # the engine takes two
    assert sum(1 for _ in found) == 299
    assert drawn.most < 10
    del found
    assert drawn.alive == 0


def test_an_unreadable_picture_is_told_in_its_turn(model: EdgeModel, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (9, 7), (50 * number, 0, 99)).save(path)
    paths[2].write_bytes(b"no picture")
    told: list[tuple[Path, str]] = []
    found = model.captions_of(paths, skip=lambda path, error: told.append((path, str(error))))
    readable = [path for path in paths if path != paths[2]]
    assert [path for path, _ in found] == readable
    assert [path for path, _ in told] == [paths[2]] and "cannot be decoded" in told[0][1]
    strict = model.captions_of(paths)
    assert [next(strict)[0], next(strict)[0]] == paths[:2]
    with pytest.raises(ArtifactError, match=r"2\.png"):
        next(strict)


def test_settings_are_refused_before_a_picture_is_taken(model: EdgeModel) -> None:
    drawn = Drawn(3)
    with pytest.raises(UsageError, match="num_return_sequences"):
        model.captions_of(drawn, 4, beams=2)
    assert drawn.taken == 0


def test_reading_ahead_stops_with_whoever_reads() -> None:
    done: list[int] = []
    for _ in read_ahead(done.append, range(1000), 4):
        break
    gc.collect()
    assert len(done) <= 5

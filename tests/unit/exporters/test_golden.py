import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge.errors import ArtifactError
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.golden import read_golden


def dataset(folder: Path, names: list[str]) -> Path:
    (folder / "pictures").mkdir(parents=True)
    described = {"name": "few", "version": "1", "license": "CC0", "image_root": "pictures"}
    (folder / "dataset.json").write_text(json.dumps(described))
    rows = [{"image": n, "caption": ["a"], "image_id": i} for i, n in enumerate(names)]
    (folder / "caption_test.json").write_text(json.dumps(rows))
    for number, name in enumerate(names):
        Image.new("RGB", (1000, 10 + number), (number, 0, 0)).save(folder / "pictures" / name)
    return folder


def test_drawn_pictures_are_lively_and_the_same_for_a_seed() -> None:
    first, again, other = (list(pictures(None, 3, seed=seed)) for seed in (1, 1, 2))
    assert [p.tobytes() for p in first] == [p.tobytes() for p in again]
    assert first[0].tobytes() != other[0].tobytes()
    assert len({p.tobytes() for p in first}) == 3
    assert all(np.asarray(picture).std() > 10 for picture in first)


def test_a_data_set_gives_its_first_test_pictures_at_a_moderate_size(tmp_path: Path) -> None:
    found = list(pictures(dataset(tmp_path / "few", ["a.png", "b.png", "c.png"]), 2))
    assert [picture.getpixel((0, 0)) for picture in found] == [(0, 0, 0), (1, 0, 0)]
    assert found[0].size == (640, 6)


def test_a_data_set_without_a_test_split_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "few", ["a.png"])
    (folder / "caption_test.json").unlink()
    with pytest.raises(ArtifactError, match=r"caption_test\.json"):
        list(pictures(folder, 2))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"images": ["../../etc/passwd"]}, "leaves the folder"),
        ({"pixels": ["none.npy"]}, "missing"),
        ({"pixels": ["golden.json"]}, "not a numpy array"),
        ({"task": "dancing"}, "unknown task"),
        ({"arrays": ["logits"]}, "not a list of golden pictures"),
    ],
)
def test_damaged_golden_files_are_named(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    whole = {"task": "caption", "images": [], "pixels": [], "texts": [], "said": "", "arrays": {}}
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "golden.json").write_text(json.dumps([whole | entry]))
    with pytest.raises(ArtifactError, match=message):
        read_golden(tmp_path)


def test_nothing_pickled_is_read(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    np.save(tmp_path / "golden" / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    entry = {"task": "caption", "images": ["a.png"], "texts": [], "said": "", "pixels": ["x.npy"]}
    (tmp_path / "golden" / "golden.json").write_text(json.dumps([entry]))
    with pytest.raises(ArtifactError, match="not a numpy array"):
        read_golden(tmp_path)

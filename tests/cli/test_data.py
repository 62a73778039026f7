"""`data prepare`, `data make` and `data check` as they are typed."""

import json
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from blip_edge.cli import data
from tests.conftest import Run


@pytest.fixture
def karpathy(tmp_path: Path) -> Path:
    """A Karpathy file of two pictures, of which one was downloaded."""
    images = [
        {
            "filepath": "val2014",
            "filename": f"COCO_val2014_{number:012d}.jpg",
            "cocoid": number,
            "split": "test",
            "sentences": [{"raw": "A cat."}],
        }
        for number in (1, 2)
    ]
    pictures = tmp_path / "pictures" / "val2014"
    pictures.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(pictures / "COCO_val2014_000000000001.jpg")
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images}))
    return path


def test_the_sets_are_those_that_can_be_prepared() -> None:
    from blip_edge.data.prepare import SETS

    assert get_args(data._Official) == tuple(SETS)


def test_a_download_is_prepared(run: Run, karpathy: Path, tmp_path: Path) -> None:
    images = tmp_path / "pictures"
    words = ("data", "prepare", "coco", karpathy, "--images", images, "-o", tmp_path / "coco")
    code, out, err = run(*words)
    assert (code, out) == (3, "")
    assert err.count("error: ") == 1
    assert "1 of 2 entries cannot be used" in err
    assert not (tmp_path / "coco").exists()
    code, out, err = run(*words, "--max-bad", "0.5")
    assert code == 0
    assert "coco" in out
    assert "1 entries were left out; see skipped.jsonl" in err
    assert f"next: blip-edge data check {tmp_path / 'coco'}" in err
    within = run("data", "prepare", "coco", karpathy, "--images", images, "-o", images / "coco")
    assert within[0] == 2
    code, out, err = run("data", "check", tmp_path / "coco", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == {"caption_test.json": 1}


def test_preparing_prints_one_document(run: Run, karpathy: Path, tmp_path: Path) -> None:
    words = ("data", "prepare", "coco", karpathy, "-o", tmp_path / "coco")
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["made_by"][0]["verb"] == "data prepare"
    assert run(*words, "--quiet")[0] == 3  # it is there already
    assert run(*words, "--quiet", "--force")[0] == 0


@pytest.mark.parametrize(
    "words", [("coca",), ("coco", "--max-bad", "2"), ("coco", "--mapping", "got.tsv")]
)
def test_flags_that_make_no_sense(
    run: Run, karpathy: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    name, *flags = words
    code, out, err = run("data", "prepare", name, karpathy, *flags, "-o", tmp_path / "coco")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A folder of stamps, enough for all three splits."""
    folder = tmp_path / "stamps"
    folder.mkdir()
    for number in range(40):
        picture = Image.new("RGBA", (8, 8), "blue")
        picture.paste("red", (0, 0, 4, 8))
        picture.save(folder / f"{number}x.png")
        (folder / f"{number}x.txt").write_text(f"Number {number}.")
    return folder


def test_pictures_are_made_of_an_unpacked_package(
    run: Run, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("data", "make", "stamps", "--from", unpacked, "--size", "16", "-o", tmp_path / "data")
    code, out, err = run(*words, "--png-only", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["kind"] == "data"
    monkeypatch.setenv("PATH", "")
    code, out, err = run(*words, "--force")
    assert (code, out) == (4, "")
    assert "apt-get install librsvg2-bin" in err


def test_tars_are_checked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"no tar")
    code, out, err = run("data", "check", tmp_path / "{0..0}.tar")
    assert code == 3
    assert f"{tmp_path / '0.tar'} is damaged or truncated" in out
    assert "1 rows or files cannot be used" in err
    assert run("data", "check", tmp_path / "1.tar")[0] == 3
    assert run("data", "check", tmp_path, tmp_path)[0] == 2

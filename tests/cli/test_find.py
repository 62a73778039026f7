"""index and search, as a user types them."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run

TEXTS = ["a red circle on the left", "a small blue square", "a large green star"]


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from blip_edge.models import save_model
    from tests import tiny

    path = tmp_path_factory.mktemp("models") / "matcher"
    path.mkdir()
    save_model(path, tiny.model(TEXTS * 9, "BlipForImageTextRetrieval"))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures in two folders, and things that are none."""
    root = tmp_path / "photos"
    random = np.random.default_rng(0)
    for number in range(12):
        folder = root / ("a" if number < 6 else "b c")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 30)).save(folder / f"{number}.png")
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def index(run: Run, matcher: Path, photos: Path, tmp_path: Path) -> Path:
    output = tmp_path / "index"
    code, out, _ = run("index", matcher, photos, "-o", output, "--json")
    assert (code, json.loads(out)["images"]) == (0, 12)
    return output


def found(run: Run, *words: Any) -> list[dict[str, Any]]:
    code, out, err = run("search", *words, "--json")
    assert (code, err) == (0, "")
    hits: list[dict[str, Any]] = json.loads(out)
    return hits


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_found_is_what_comparing_everything_finds(
    run: Run, index: Path, matcher: Path, photos: Path, text: str
) -> None:
    from blip_edge import load

    model = load(matcher)
    every = {str(path.resolve()): model.match(path, [text])[0] for path in photos.rglob("[0-9]*")}
    by_cosine = sorted(every, key=lambda path: -every[path].itc)
    near = found(run, index, text, "--k", 0, "--limit", 5)
    assert [hit["itm"] for hit in near] == [None] * 5
    for hit, path in zip(near, by_cosine, strict=False):
        # Vectors are kept in half precision.
        assert every[hit["image"]].itc == pytest.approx(every[path].itc, abs=2e-3)

    read = found(run, index, text, "--k", 12, "--limit", 12)
    assert [Path(hit["image"]).name for hit in read] == ranked_by_eval(model, photos, text)
    for hit in read:
        assert hit["itm"] == pytest.approx(every[hit["image"]].itm, abs=1e-5)


def ranked_by_eval(model: Any, photos: Path, text: str) -> list[str]:
    """The pictures' names in the order in which `eval` would find them by `text`."""
    from blip_edge.evaluation.result import EvalSettings
    from blip_edge.evaluation.retrieval import search
    from blip_edge.progress import SILENT

    paths = {path.name: path for path in photos.rglob("[0-9]*")}

    class Opened:
        def open(self, name: str) -> Image.Image:
            return Image.open(paths[name])

    everyone: Any = Opened()
    places = search(model, {name: [text] for name in paths}, everyone, EvalSettings(), SILENT)
    return [name for _, name in sorted(zip(places.image_places, places.images, strict=True))]


def test_those_that_were_read_come_before_those_that_were_not(run: Run, index: Path) -> None:
    hits = found(run, index, TEXTS[0], "--k", 3, "--limit", 6)
    assert [hit["itm"] is None for hit in hits] == [False] * 3 + [True] * 3


def test_people_read_a_line_a_picture(run: Run, index: Path, matcher: Path) -> None:
    code, out, err = run("search", index, TEXTS[0], "--limit", 2, "--k", 1)
    assert (code, err) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert [len(line) for line in lines] == [3, 3]
    assert lines[1][0] == "–" and Path(lines[0][2]).is_file()
    code, out, _ = run("inspect", index)
    assert code == 0 and "12 in" in out and str(matcher) in out


def test_a_library_for_large_indexes_finds_the_same(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    expected = found(run, index, TEXTS[1], "--k", 0)
    monkeypatch.setattr("blip_edge.runtime.picture_index._MOST_BY_NUMPY", 1)
    assert [hit["image"] for hit in found(run, index, TEXTS[1], "--k", 0)] == [
        hit["image"] for hit in expected
    ]


def test_a_damaged_picture_is_left_out_or_stops_the_run(
    run: Run, matcher: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "a" / "0.png").write_bytes(b"not a picture")
    output = tmp_path / "out"
    code, _, err = run("index", matcher, photos, "-o", output, "--quiet")
    assert code == 3 and "1 of 12 pictures cannot be read" in err and not output.exists()
    code, out, _ = run("index", matcher, photos, "-o", output, "--max-bad", 0.1, "--json")
    assert (code, json.loads(out)["images"]) == (0, 11)
    (skipped,) = map(json.loads, (output / "skipped.jsonl").read_text().splitlines())
    assert skipped["image"] == "a/0.png"


def test_what_does_not_fit_is_named(
    run: Run, index: Path, matcher: Path, photos: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(matcher, moved)
    assert found(run, index, TEXTS[0], "--model", moved)
    (moved / "README.md").write_text("changed")
    cases: list[tuple[tuple[Any, ...], int, str]] = [
        (("search", index, "  "), 2, "the text is empty"),
        (("search", index, "red", "--model", moved), 3, "made by another model"),
        (("search", index, "red", "--model", tmp_path / "none"), 3, "name it with --model"),
        (("search", matcher, "red"), 3, "index.json is missing"),
        (("index", matcher, photos, "-o", index), 3, "already exists"),
        (("index", matcher, tmp_path / "none", "-o", tmp_path / "x"), 3, "is not a folder"),
        (("index", matcher, matcher, "-o", tmp_path / "x"), 3, "holds no pictures"),
    ]
    for words, code, reason in cases:
        got, out, err = run(*words, "--quiet")
        assert (got, out) == (code, "") and reason in err and err.count("\n") == 1, (words, err)
    next(photos.rglob("7.png")).unlink()
    code, _, err = run("search", index, "red", "--quiet")
    assert code == 3 and "7.png" in err


def test_names_that_leave_the_folder_are_not_followed(run: Run, index: Path) -> None:
    document = json.loads((index / "index.json").read_text())
    document["images"][0] = "../../secret.png"
    (index / "index.json").write_text(json.dumps(document))
    code, _, err = run("search", index, "red", "--quiet")
    assert code == 3 and "leaves the folder" in err


def test_a_bundle_that_was_timed_still_searches_its_index(
    run: Run, matcher: Path, photos: Path, tmp_path: Path
) -> None:
    """`bench` notes latencies in the manifest, which decide no vector; another tokenizer does."""
    pytest.importorskip("onnxscript")
    from blip_edge.benchmarks.rows import note_latency

    bundle, index = tmp_path / "bundle", tmp_path / "index"
    code, _, err = run("export", matcher, "-o", bundle, "--target", "onnx", "--quiet")
    assert code == 0, err
    assert run("index", bundle, photos, "-o", index, "--quiet")[0] == 0
    before = found(run, index, TEXTS[0])
    record: Any = {"p50_ms": 1.0, "samples": {}}
    note_latency(bundle, record)
    assert found(run, index, TEXTS[0]) == before
    (bundle / "tokenizer.json").write_text((bundle / "tokenizer.json").read_text() + "\n")
    code, _, err = run("search", index, "red", "--quiet")
    assert code == 3 and "made by another model" in err


def test_links_lead_wherever_their_owner_likes(
    run: Run, matcher: Path, photos: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), (250, 0, 0)).save(tmp_path / "elsewhere.png")
    (photos / "link.png").symlink_to(tmp_path / "elsewhere.png")
    index = tmp_path / "linked"
    assert run("index", matcher, photos, "-o", index, "--quiet")[0] == 0
    assert str(photos / "link.png") in {h["image"] for h in found(run, index, "red", "--limit", 13)}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_names_that_are_no_text_are_left_out_and_listed(
    run: Run, matcher: Path, photos: Path, tmp_path: Path
) -> None:
    odd = os.fsencode(photos) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes((photos / "a" / "0.png").read_bytes())
    index = tmp_path / "odd"
    code, out, err = run("index", matcher, photos, "-o", index, "--max-bad", 0.1, "--json")
    assert (code, err) == (0, "") and json.loads(out)["images"] == 12
    (skipped,) = map(json.loads, (index / "skipped.jsonl").read_text().splitlines())
    assert skipped["image"] == "caf\\udce9.png" and "not UTF-8" in skipped["reason"]


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.zeros((12, 3), dtype=np.float16), "vectors 3 wide"),
        (np.zeros((12, 16), dtype=np.int32), "vectors (12, 16) of int32"),
        (np.zeros((11, 16), dtype=np.float16), "12 names, but vectors (11, 16)"),
    ],
)
def test_vectors_that_were_changed_are_refused(
    run: Run, index: Path, vectors: Any, reason: str
) -> None:
    np.save(index / "vectors.npy", vectors)
    code, out, err = run("search", index, "red", "--quiet")
    assert (code, out) == (3, "") and reason in err and "index again" in err

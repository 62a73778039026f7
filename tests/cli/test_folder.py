"""caption on folders of pictures, as a user types it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.unit.runtime import toy
from tests.unit.runtime.toy_onnx import write_onnx

pytest.importorskip("onnxruntime")

COUNT = 120


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_onnx(folder)
    graphs = {name: f"{name}.onnx" for name in ("vision", "decoder")}
    return toy.write_bundle(folder, "onnx", graphs)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred and twenty pictures in two folders, and a file that is none."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        folder = root / f"b {number % 2}"
        folder.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (1, 1, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((16, 12)).save(folder / f"{number:03}.png")
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture
def damaged(photos: Path) -> Iterator[Path]:
    """One of them that cannot be decoded; it is put right afterwards."""
    path = photos / "b 1" / "101.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    yield path
    path.write_bytes(whole)


def test_a_folder_is_its_pictures_by_name(run: Run, bundle: Path, photos: Path) -> None:
    asked = ("caption", "--threads", 1, bundle)
    code, out, err = run(*asked, photos)
    assert code == 0 and err.splitlines()[-1].startswith("captioning: 120 in ")
    names = sorted(photos.rglob("*.png"))
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(name) for name in names]
    assert run(*asked, *names)[:2] == (0, out)
    assert len({line.split("\t")[1] for line in out.splitlines()}) > 3
    code, mixed, _ = run(*asked, names[-1], photos / "b 0")
    assert (code, mixed.count("\n")) == (0, 1 + COUNT // 2)
    assert mixed.startswith(f"{names[-1]}\t")


def test_json_is_one_document_of_all(run: Run, bundle: Path, photos: Path) -> None:
    lines = run("caption", "--threads", 1, bundle, photos)[1].splitlines()
    code, out, err = run("caption", "--threads", 1, bundle, photos, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [f"{row['image']}\t{row['caption']}" for row in rows] == lines
    assert out == json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    assert all(list(row) == ["image", "caption", "score"] for row in rows)


def test_a_few_bad_pictures_are_left_out_and_listed_at_the_end(
    run: Run, bundle: Path, photos: Path, damaged: Path
) -> None:
    code, out, err = run("caption", "--threads", 1, bundle, photos, "--quiet")
    assert (code, out.count("\n")) == (0, COUNT - 1)
    assert str(damaged) not in out
    first, second = err.splitlines()
    assert first == "left out 1 of 120 pictures, which cannot be read:"
    assert second.startswith(f"  {damaged}: cannot be decoded")


def test_too_many_bad_pictures_stop_the_work(
    run: Run, bundle: Path, photos: Path, damaged: Path
) -> None:
    code, out, err = run("caption", "--threads", 1, bundle, photos, "--max-bad", "0.003", "--json")
    assert (code, err.count("\n")) == (3, 1)
    assert f"error: {photos}: 1 of 120 pictures cannot be read" in err and "--max-bad" in err
    assert 0 < len(json.loads(out)) < COUNT - 1  # what was said by then, and still one document


def test_a_bad_picture_that_has_a_name_is_an_error(
    run: Run, bundle: Path, photos: Path, damaged: Path
) -> None:
    good = photos / "b 0" / "000.png"
    code, out, err = run("caption", "--threads", 1, bundle, damaged, good, "--json")
    assert (code, len(json.loads(out)), err.count("\n")) == (3, 1, 1)
    assert err.startswith(f"error: {damaged}: ")
    code, out, err = run("caption", "--threads", 1, bundle, damaged, "--json")
    assert (code, json.loads(out)) == (3, [])


def test_a_folder_without_pictures_is_one_line(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, out, err = run("caption", "--threads", 1, bundle, tmp_path)
    assert (code, out, err) == (3, "", err.splitlines()[0] + "\n")
    assert f"{tmp_path} holds no pictures" in err


def test_a_model_folder_takes_folders_too(run: Run, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from blip_edge.models import save_model
    from tests import tiny

    model = tmp_path / "model"
    model.mkdir()
    save_model(model, tiny.model(["a red circle on the left", "both are blue squares"] * 9))
    few = tmp_path / "few"
    few.mkdir()
    for number in range(35):  # three batches, the last not full
        (few / f"{number:02}.png").symlink_to(photos / f"b {number % 2}" / f"{number:03}.png")
    code, out, _ = run("caption", model, few)
    assert (code, out.count("\n")) == (0, 35)
    assert run("caption", model, *sorted(few.iterdir()))[:2] == (0, out)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_in_a_terminal_captions_and_bar_do_not_mix(bundle: Path, photos: Path) -> None:
    import pty

    controller, terminal = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "blip_edge",
        "caption",
        str(bundle),
        str(photos),
        "--threads=1",
    ]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "300"}
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as running:
        os.close(terminal)
        shown = b""
        while chunk := _read(controller):
            shown += chunk
    os.close(controller)
    assert running.returncode == 0
    lines = shown.decode().splitlines()
    captions = [line for line in lines if ".png\t" in line]
    assert len(captions) == COUNT
    # Before a caption there is at most what takes the bar away.
    assert not [line for line in captions if "captioning" in line]
    assert "120/120" in lines[-1] + lines[-2]


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 1 << 20)
    except OSError:  # all is said
        return b""

"""A bundle of a model of fewer words: as right as torch, and smaller where the words were."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blip_edge import load
from blip_edge.exporters.asked import pictures
from blip_edge.models import load_model
from blip_edge.models.smaller_vocabulary import with_vocabulary
from blip_edge.runtime.manifest import read_manifest
from blip_edge.training.engine import open_model
from tests.export.conftest import save

FEWER = ["a red circle", "two blue squares on a table"]


@pytest.fixture(scope="module")
def smaller(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("smaller")
    return save(root / "smaller", with_vocabulary(load_model(folder), FEWER))


@pytest.fixture
def bundles(folder: Path, smaller: Path, exported: Callable[..., Path]) -> tuple[Path, Path]:
    for package in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(package)
    return exported(folder, "onnx"), exported(smaller, "onnx")


@pytest.mark.parametrize("beams", [1, 3])
def test_the_bundle_says_what_torch_says(
    smaller: Path, bundles: tuple[Path, Path], beams: int
) -> None:
    shown = list(pictures(None, 3, seed=7))
    want = open_model(smaller).caption(shown, beams=beams)
    assert len({caption.text for caption in want}) > 1, "too tame to show a mistake"
    got = load(bundles[1]).caption(shown, beams=beams)
    assert [caption.token_ids for caption in got] == [caption.token_ids for caption in want]
    assert [caption.text for caption in got] == [caption.text for caption in want]


def test_the_decoder_is_smaller_by_the_words_that_went(
    folder: Path, smaller: Path, bundles: tuple[Path, Path]
) -> None:
    before, after = (read_manifest(bundle).graph("decoder").path for bundle in bundles)
    smaller_by = before.stat().st_size - after.stat().st_size
    texts = [load_model(path).config.text_config for path in (folder, smaller)]
    rows = texts[0].vocab_size - texts[1].vocab_size
    assert rows > 20
    floats = rows * (texts[0].hidden_size + 1)
    assert smaller_by >= 4 * floats  # more where a graph holds the table twice, once transposed

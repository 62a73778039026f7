"""A Core ML bundle, on the evaluator, gives what the formula gives."""

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("coremltools")

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.coreml import CoreMLEngine
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.load import load
from tests.unit.runtime import toy
from tests.unit.runtime.test_engines import pictures
from tests.unit.runtime.toy_coreml import write_coreml

TOLERANCE = 2e-5  # as for the other engines


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coreml")
    write_coreml(folder)
    graphs = {"vision": "vision.mlpackage", "decoder": "decoder.mlpackage"}
    return toy.write_bundle(folder, "coreml", graphs)


@pytest.fixture(scope="module")
def model(bundle: Path) -> EdgeModel:
    return load(bundle)


@pytest.mark.parametrize("beams", [1, 2, 3])  # fewer than the decoder's rows, and as many
def test_a_bundle_captions_as_the_formula_does(model: EdgeModel, beams: int) -> None:
    formula = EdgeModel(
        toy.ToyEngine(), toy.tokenizer(), Preprocess(size=toy.SIDE), toy.generation()
    )
    found = model.caption(pictures(), beams=beams)
    wanted = formula.caption(pictures(), beams=beams)
    assert [caption.token_ids for caption in found] == [caption.token_ids for caption in wanted]
    scores = [caption.score for caption in wanted]
    assert [caption.score for caption in found] == pytest.approx(scores, abs=TOLERANCE)


def test_what_the_decoder_was_not_built_for_is_refused(model: EdgeModel) -> None:
    with pytest.raises(UsageError, match="at most 3 beams, not 4"):
        model.caption(pictures()[0], beams=4)
    with pytest.raises(UsageError, match="at most 12 tokens, not 13"):
        model.caption(pictures()[0], max_length=13)


def test_its_latency_is_known_to_mean_nothing(model: EdgeModel) -> None:
    assert isinstance(model.engine, CoreMLEngine)
    assert model.engine.simulated == (sys.platform != "darwin")


def test_a_decoder_without_sizes_is_refused(bundle: Path, tmp_path: Path) -> None:
    document = read_json(bundle / "manifest.json")
    document["cache"]["static"] = None
    shutil.copytree(bundle, tmp_path, dirs_exist_ok=True)
    write_json(tmp_path / "manifest.json", document)
    with pytest.raises(ArtifactError, match="no fixed sizes"):
        load(tmp_path)

"""Bundles of models that merge image tokens: the same words and scores as torch's."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blip_edge import load
from blip_edge.errors import ArtifactError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.recipe import ExportTarget, Precision
from blip_edge.models import Model
from blip_edge.models.config import Architecture
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.training.engine import open_model
from tests import tiny
from tests.export.conftest import TEXTS, calibrated, lively_model, save

FLOAT = 1e-4
KEPT = (12, 7)  # of 17 tokens
PACKAGES = {"onnx": "onnxruntime", "coreml": "coremltools", "executorch": "executorch.runtime"}
SLOW = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
TARGETS = ["onnx", "openvino", "coreml", pytest.param("executorch", marks=SLOW)]
Pair = Callable[[Architecture], tuple[EdgeModel, EdgeModel]]


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that leaves 7 of 17 image tokens."""
    return save(tmp_path_factory.mktemp("merging") / "model", merging(lively_model(), KEPT))


def merging(model: Model, kept: tuple[int, ...]) -> Model:
    vision = replace(model.config.vision_config, tokens_kept=kept)
    return model.with_blip(tiny.lively(replace(model.config, vision_config=vision)))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """(torch's model, the ONNX bundle's) of an architecture, which leaves 4 of 10 image tokens."""

    def pair_of(architecture: Architecture) -> tuple[EdgeModel, EdgeModel]:
        pytest.importorskip("onnxruntime")
        model = merging(tiny.model(list(TEXTS), architecture), (7, 4))
        folder = save(tmp_path / "model", model)
        bundle = export(folder, tmp_path / "bundle", target="onnx", recipe=ExportRecipe(golden=1))
        return open_model(folder), load(bundle)

    return pair_of


def images() -> list[Image.Image]:
    """Other pictures than the golden ones."""
    return list(pictures(None, 4, seed=7))


@pytest.mark.parametrize("target", TARGETS)
def test_captions_are_torchs(captioner: Path, target: ExportTarget, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES.get(target, target))
    recipe = ExportRecipe(precision="fp32", golden=2)
    bundle = export(captioner, tmp_path / "out", target=target, recipe=recipe)
    document = json.loads((bundle / "manifest.json").read_text())
    ports = document["graphs"]["vision"]["outputs"], document["graphs"]["decoder"]["inputs"]
    assert all(side["cross_key_1"]["shape"] == [1, 4, 8, 7] for side in ports)
    model, packed = open_model(captioner), load(bundle)
    for beams in (1, 3):
        want = model.caption(images(), beams=beams)
        found = packed.caption(images(), beams=beams)
        assert [one.token_ids for one in found] == [one.token_ids for one in want]
    assert len({one.text for one in want}) > 1, "weights too tame to show a mistake"
    assert verify(bundle, captioner).passed


@pytest.mark.parametrize(("target", "precision"), [("coreml", "fp16"), ("onnx", "int8")])
def test_lower_precisions_pass_their_gates(
    target: ExportTarget, precision: Precision, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[target])
    model = merging(lively_model(), KEPT)
    folder = save(tmp_path / "model", model)
    calibrated(model).save(folder)
    recipe = ExportRecipe(precision=precision, golden=1)
    assert export(folder, tmp_path / "out", target=target, recipe=recipe).is_dir()


def test_texts_are_matched_as_torch_matches_them(pair: Pair) -> None:
    model, bundle = pair("BlipForImageTextRetrieval")
    vectors = bundle.embed_image(images())
    np.testing.assert_allclose(vectors, model.embed_image(images()), atol=FLOAT)
    for image in images():
        want, found = model.match(image, TEXTS), bundle.match(image, TEXTS)
        for key in ("itm", "itc"):
            values = [getattr(one, key) for one in want]
            assert [getattr(one, key) for one in found] == pytest.approx(values, abs=FLOAT)


def test_questions_are_answered_with_torchs_words(pair: Pair) -> None:
    model, bundle = pair("BlipForQuestionAnswering")
    asked = ["is there a red circle?", "where?", "what is above a blue square", "two?"]
    want = model.answer(images(), asked, beams=2, max_length=8)
    found = bundle.answer(images(), asked, beams=2, max_length=8)
    assert [one.text for one in found] == [one.text for one in want]


def test_sentences_about_two_pictures_are_judged_as_torch_judges_them(pair: Pair) -> None:
    """Both pictures go through the graph at once, and each merges tokens of its own."""
    model, bundle = pair("BlipForImagesAndTextClassification")
    sides = images()[:3], images()[1:]
    want, found = (one.reason(*sides, list(TEXTS)) for one in (model, bundle))
    assert [one.score for one in found] == pytest.approx([one.score for one in want], abs=FLOAT)
    swapped = bundle.reason(*sides[::-1], list(TEXTS))
    assert abs(swapped[0].score - found[0].score) > 1e-3


def test_transformers_cannot_hold_it(captioner: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ArtifactError, match="merges tokens; export to another target"):
        export(captioner, tmp_path / "out", target="huggingface")

"""Bundles whose decoder runs on ONNX Runtime and everything else on OpenVINO (`encoders`)."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blip_edge import load
from blip_edge.benchmarks import bench
from blip_edge.benchmarks.devices.browser import BrowserDevice
from blip_edge.benchmarks.devices.find import WebSettings
from blip_edge.benchmarks.operators import profile
from blip_edge.errors import ArtifactError, MissingExtraError, UsageError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.parity import compare, forced_logits, make_forcing
from blip_edge.exporters.stage import reference_model
from blip_edge.models import Model
from blip_edge.models.config import Architecture
from blip_edge.models.quantized import LayerDecision, Quantization, quantizable_layers
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.training.engine import edge_model, open_model
from tests import tiny
from tests.export.conftest import TEXTS, lively_model, save

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

Exported = Callable[..., Path]
IMAGES = list(pictures(None, 6, seed=7))
MIXED: dict[str, Any] = {"encoders": "openvino"}


@pytest.fixture
def mixed(uneven: Path, exported: Exported) -> Path:
    return exported(uneven, "onnx", precision="fp32", **MIXED)


@pytest.fixture
def plain(uneven: Path, exported: Exported) -> Path:
    return exported(uneven, "onnx", precision="fp32")


def graphs_of(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())["graphs"]
    return found


def dictated(model: EdgeModel) -> np.ndarray[Any, np.dtype[np.float32]]:
    ids = tuple(model.tokenizer.prompt_ids("a picture of a red circle"))
    forcing = make_forcing(ids, rows=3, tokens=30, vocabulary=model.tokenizer.vocab_size)
    seen = model.captioner.encode(model.preprocess(IMAGES[:1]))
    return forced_logits(model.captioner, seen, forcing)


def test_the_manifest_tells_who_runs_what_and_the_files_are_those_of_onnx(
    mixed: Path, plain: Path
) -> None:
    rows, others = graphs_of(mixed), graphs_of(plain)
    assert {name: row.get("engine") for name, row in rows.items()} == {
        "vision": "openvino",
        "decoder": None,
    }
    assert {name: row["sha256"] for name, row in rows.items()} == {
        name: row["sha256"] for name, row in others.items()
    }
    assert "FullyConnected.f32" in rows["vision"]["ops"]["by_type"]
    assert "MatMul" in rows["decoder"]["ops"]["by_type"]
    assert "every graph but the decoder on OpenVINO" in (mixed / "README.md").read_text()


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_have_the_tokens_of_torch_one_by_one_and_together(
    mixed: Path, uneven: Path, beams: int
) -> None:
    expected = [one.token_ids for one in open_model(uneven).caption(IMAGES, beams=beams)]
    bundle = load(mixed)
    assert len(set(expected)) > 1, "all pictures look alike to this model"
    assert [one.token_ids for one in bundle.caption(IMAGES, beams=beams)] == expected
    assert [bundle.caption(image, beams=beams).token_ids for image in IMAGES] == expected


def test_several_threads_get_what_one_gets(mixed: Path) -> None:
    bundle = load(mixed, threads=1)
    expected = [bundle.caption(image).token_ids for image in IMAGES]
    with ThreadPoolExecutor(4) as pool:
        assert [one.token_ids for one in pool.map(bundle.caption, IMAGES)] == expected


@pytest.mark.parametrize(
    "architecture",
    [
        "BlipForImageTextRetrieval",
        "BlipForQuestionAnswering",
        "BlipForImagesAndTextClassification",
    ],
)
def test_other_tasks_answer_as_torch_does(architecture: Architecture, tmp_path: Path) -> None:
    model = save(tmp_path / "model", tiny.model(list(TEXTS) * 3, architecture))
    recipe = ExportRecipe(precision="fp32", golden=2, **MIXED)
    bundle = export(model, tmp_path / "bundle", target="onnx", recipe=recipe)
    assert verify(bundle).passed
    ours, theirs = load(bundle), open_model(model)
    if architecture == "BlipForImageTextRetrieval":
        for image in IMAGES:
            found = [(one.itm, one.itc) for one in ours.match(image, TEXTS)]
            expected = [(one.itm, one.itc) for one in theirs.match(image, TEXTS)]
            assert np.allclose(found, expected, atol=1e-4)
        # What was given for one picture stays when the next is encoded into the same memory.
        assert np.allclose(ours.embed_image(IMAGES), theirs.embed_image(IMAGES), atol=1e-4)
    elif architecture == "BlipForQuestionAnswering":
        for image in IMAGES:
            assert ours.answer(image, TEXTS[0]).text == theirs.answer(image, TEXTS[0]).text
    else:
        pairs = list(zip(IMAGES, reversed(IMAGES), strict=True))
        scores = [ours.reason(*pair, TEXTS[1]).score for pair in pairs]
        assert np.allclose(scores, [theirs.reason(*pair, TEXTS[1]).score for pair in pairs])


def test_in_8_bits_both_engines_run_integers(quantized: Path, exported: Exported) -> None:
    # Of random weights one step that OpenVINO rounds otherwise carries on through a whole caption;
    # dictated words do not, and are held to the export's own measure below.
    bundle = exported(quantized, "onnx", **MIXED, int8_psnr=20.0)
    tower = json.loads((bundle / "manifest.json").read_text())["parity"]["vision"]
    assert min(found["psnr_db"] for found in tower.values()) > 33
    assert all(row["ops"]["int8"] == row["int8_layers"] > 0 for row in graphs_of(bundle).values())
    expected = dictated(edge_model(reference_model(quantized, "onnx", "int8")))
    assert compare(expected, dictated(load(bundle))).psnr_db > ExportRecipe().int8_psnr


def test_without_openvino_it_says_what_to_install(
    mixed: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert load(plain).caption(IMAGES[0]).token_ids
    with pytest.raises(MissingExtraError, match="openvino"):
        load(mixed)


def test_other_targets_and_dynamic_layers_are_refused(uneven: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encoders is for ONNX"):
        export(uneven, tmp_path / "a", target="coreml", recipe=ExportRecipe(**MIXED))
    dynamic = save(tmp_path / "dynamic", lively_model())
    _all_dynamic(lively_model()).save(dynamic)
    with pytest.raises(ArtifactError, match="dynamic layers, which OpenVINO does not read"):
        export(dynamic, tmp_path / "b", target="onnx", recipe=ExportRecipe(**MIXED))
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def _all_dynamic(model: Model) -> Quantization:
    decision = LayerDecision(decision="int8", weight_bits=8, activation_bits=8)
    return Quantization(
        mode="dynamic", layers=dict.fromkeys(quantizable_layers(model.blip), decision)
    )


@pytest.mark.parametrize("engine", ["coreml", "onnx", "", 3])
def test_an_engine_that_cannot_run_such_graphs_is_refused(
    plain: Path, tmp_path: Path, engine: object
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path in plain.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    document = json.loads((folder / "manifest.json").read_text())
    document["graphs"]["vision"]["engine"] = engine
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="graphs for onnx cannot be run by"):
        load(folder)


def test_the_profile_tells_of_both_engines(mixed: Path, tmp_path: Path) -> None:
    files = []
    for number, image in enumerate(IMAGES[:2]):
        image.save(path := tmp_path / f"{number}.png")
        files.append(str(path))
    rows = profile(load(mixed), mixed, "caption", [Asked((file,)) for file in files])
    assert rows is not None
    kinds = {
        name: {row["type"] for row in rows if row["graph"] == name} for name in graphs_of(mixed)
    }
    assert "FullyConnected" in kinds["vision"]
    assert kinds["decoder"] & {"MatMul", "FusedMatMul", "Gemm"}


def test_a_device_with_one_engine_refuses_it(mixed: Path) -> None:
    browser = BrowserDevice("", WebSettings(), print)
    with pytest.raises(UsageError, match="is for onnx and openvino, and browser runs onnx"):
        bench([mixed], device=browser)

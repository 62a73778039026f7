"""Bundles of every target against torch, on tiny models: one even, one pruned unevenly, one in 8
bits. The engines are the runtime's own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blip_edge import load
from blip_edge.errors import UsageError
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.parity import compare, forced_logits, make_forcing
from blip_edge.exporters.recipe import ExportRecipe, ExportTarget
from blip_edge.exporters.stage import reference_model
from blip_edge.models import load_model
from blip_edge.models.quantized import quantizable_layers
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.manifest import read_manifest
from blip_edge.runtime.openvino import OpenVinoEngine
from blip_edge.training.engine import edge_model, open_model

Exported = Callable[..., Path]

FLOAT = 1e-4  # float32 in another order of operations; a wrong mask or cache is off by 0.1 and more
HALF_DB = 50.0  # what float16's 11 bits leave after two layers
INT8_DB = 60.0  # the same integers on both sides; a rounding that falls the other way is rare
TARGETS = {
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino", "onnx", "onnxscript"),
    "coreml": ("coremltools",),
}


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> ExportTarget:
    for package in TARGETS[request.param]:
        pytest.importorskip(package)
    name: ExportTarget = request.param
    return name


@pytest.fixture
def float_bundle(target: ExportTarget, uneven: Path, exported: Exported) -> Path:
    return exported(uneven, target, precision="fp32", rows=4, length=44)


@pytest.fixture
def int8_bundle(target: ExportTarget, quantized: Path, exported: Exported) -> Path:
    return exported(quantized, target)


def images() -> list[Image.Image]:
    """Other pictures than the golden ones."""
    return list(pictures(None, 3, seed=7))


def dictated(model: EdgeModel, *, rows: int, tokens: int, prompt: int) -> NDArray[np.float32]:
    """Logits of the same random words in any model."""
    ids = tuple(model.tokenizer.prompt_ids("a picture of a red circle above a blue square"))
    vocabulary = model.tokenizer.vocab_size
    forcing = make_forcing(ids[:prompt], rows=rows, tokens=tokens, vocabulary=vocabulary)
    seen = model.captioner.encode(model.preprocess(images()[:1]))
    return forced_logits(model.captioner, seen, forcing)


def test_manifest_declares_the_names_and_shapes_of_an_unevenly_pruned_model(
    float_bundle: Path, target: ExportTarget
) -> None:
    manifest = read_manifest(float_bundle)
    assert [(c.self_heads, c.cross_heads) for c in manifest.cache.layers] == [(4, 1), (2, 3)]
    vision, decoder = manifest.graph("vision"), manifest.graph("decoder")
    assert {n: p.shape for n, p in vision.outputs.items()} == {
        "cross_key_0": (1, 1, 8, 17),
        "cross_value_0": (1, 1, 17, 8),
        "cross_key_1": (1, 3, 8, 17),
        "cross_value_1": (1, 3, 17, 8),
    }
    static = target == "coreml"
    vocabulary = load(float_bundle).tokenizer.vocab_size
    assert decoder.inputs["input_ids"].shape == ((4, 1) if static else ("R", "T"))
    assert decoder.inputs["input_ids"].dtype == "int32"
    assert decoder.inputs["past_key_1"].shape == (4, 2, 44, 8) if static else ("Q", 2, "P", 8)
    assert decoder.outputs["logits"].shape == (4 if static else "R", vocabulary)
    assert ("position" in decoder.inputs) == static
    assert manifest.document["precision"] == "fp32"
    assert manifest.document["source"]["model_sha256"]


def test_every_output_equals_torch_and_is_recorded(float_bundle: Path) -> None:
    parity = json.loads((float_bundle / "manifest.json").read_text())["parity"]
    manifest = read_manifest(float_bundle)
    for name in ("vision", "decoder"):
        assert set(manifest.graph(name).outputs) <= set(parity[name])
        assert all(0 < row["max_abs_diff"] <= FLOAT for row in parity[name].values())
        assert all(row["psnr_db"] > 90 for row in parity[name].values())


def test_forty_dictated_tokens_with_rows_changing_places(float_bundle: Path, uneven: Path) -> None:
    torch_model, bundle = open_model(uneven), load(float_bundle)
    expected = dictated(torch_model, rows=4, tokens=40, prompt=1)
    difference = compare(expected, dictated(bundle, rows=4, tokens=40, prompt=1))
    assert difference.max_abs_diff <= FLOAT
    still = make_forcing((), rows=4, tokens=40, vocabulary=torch_model.tokenizer.vocab_size)
    assert (still.orders != np.arange(4)).any(), "nothing was reordered"


@pytest.mark.parametrize(("rows", "prompt"), [(1, 7), (4, 5), (2, 1)])
def test_other_row_counts_and_text_lengths_than_traced(
    float_bundle: Path, uneven: Path, rows: int, prompt: int
) -> None:
    expected = dictated(open_model(uneven), rows=rows, tokens=12, prompt=prompt)
    actual = dictated(load(float_bundle), rows=rows, tokens=12, prompt=prompt)
    assert compare(expected, actual).max_abs_diff <= FLOAT


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_have_the_same_tokens_as_torch(
    float_bundle: Path, uneven: Path, beams: int
) -> None:
    expected = open_model(uneven).caption(images(), beams=beams)
    actual = load(float_bundle).caption(images(), beams=beams)
    assert [c.token_ids for c in actual] == [c.token_ids for c in expected]
    assert [c.score for c in actual] == pytest.approx([c.score for c in expected], abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_caption_longer_than_the_models_positions_is_refused(
    float_bundle: Path, target: ExportTarget, beams: int
) -> None:
    """As a model folder does, and not by an error from within the engine."""
    says = "at most 44 tokens" if target == "coreml" else "holds 48 tokens; ask for a smaller max"
    with pytest.raises(UsageError, match=says):
        load(float_bundle).caption(images()[0], beams=beams, min_length=60, max_length=64)


def test_8_bit_bundles_compute_as_the_8_bit_model(
    int8_bundle: Path, quantized: Path, target: ExportTarget
) -> None:
    form = json.loads((int8_bundle / "manifest.json").read_text())["form"]
    reference = edge_model(reference_model(quantized, target, "int8", form))
    rows = 3
    expected = dictated(reference, rows=rows, tokens=16, prompt=4)
    floor = HALF_DB if target == "coreml" else INT8_DB
    bundle = load(int8_bundle)
    if target == "openvino":
        faster = dictated(bundle, rows=rows, tokens=16, prompt=4)
        assert compare(expected, faster).psnr_db > ExportRecipe().int8_psnr
        exact = OpenVinoEngine(read_manifest(int8_bundle), precision="f32")
        bundle = EdgeModel(exact, bundle.tokenizer, bundle.preprocess, bundle.generation)
    actual = dictated(bundle, rows=rows, tokens=16, prompt=4)
    assert compare(expected, actual).psnr_db > floor
    document = json.loads((int8_bundle / "manifest.json").read_text())
    assert document["precision"] == "int8"
    assert {n: g["int8_layers"] for n, g in document["graphs"].items()} == {
        "vision": 12,
        "decoder": 17,
    }
    assert all(g["ops"]["int8"] == g["int8_layers"] for g in document["graphs"].values())


def test_half_precision_halves_the_weights_and_keeps_the_words(
    target: ExportTarget, folder: Path, exported: Exported
) -> None:
    half, whole = (exported(folder, target, precision=p) for p in ("fp16", "fp32"))
    sizes = [
        sum(row["bytes"] for row in json.loads(text.read_text())["graphs"].values())
        for text in (half / "manifest.json", whole / "manifest.json")
    ]
    weights = (folder / "model.safetensors").stat().st_size
    # Of a network this small what is stored twice and what is too short to halve count.
    assert sizes[1] - sizes[0] > 0.3 * weights
    expected, actual = (dictated(load(p), rows=3, tokens=16, prompt=4) for p in (whole, half))
    assert not np.array_equal(expected, actual)
    assert compare(expected, actual).psnr_db > HALF_DB


def test_8_bit_bundles_store_8_bit_weights(
    int8_bundle: Path, quantized: Path, target: ExportTarget
) -> None:
    """Weights alone: at this size names and shapes take more room than they do."""
    eight_bit = sum(
        m.weight.numel() for m in quantizable_layers(load_model(quantized).blip).values()
    )
    everything = (quantized / "model.safetensors").stat().st_size // 4
    if target == "onnx":
        onnx = pytest.importorskip("onnx")
        graphs = [onnx.load(path).graph for path in int8_bundle.glob("*.onnx")]
        stored = sum(len(t.raw_data) for graph in graphs for t in graph.initializer)
    else:
        stored = sum(path.stat().st_size for path in int8_bundle.rglob("*.bin"))
    width = 2 if target == "coreml" else 4
    floats = everything - eight_bit
    # The positions that only the float head and embedding have are counted once in either.
    assert stored < 1.25 * (eight_bit + width * floats), (stored, eight_bit, floats)
    assert stored > eight_bit

"""Every form of a quantized layer, and forms mixed, through real runtimes against its twin."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from blip_edge import load
from blip_edge.errors import UsageError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.graphs import DecoderGraph, VisionGraph
from blip_edge.exporters.onnx import write_onnx
from blip_edge.exporters.onnx_layers import head_and_words
from blip_edge.exporters.parity import compare, forced_logits, make_forcing
from blip_edge.exporters.recipe import ExportTarget
from blip_edge.exporters.stage import reference_model
from blip_edge.models.config import Architecture
from blip_edge.models.quantized import (
    HEAD,
    GroupedLinear,
    LayerDecision,
    Quantization,
    QuantizedLayer,
    WeightOnlyLinear,
    apply_quantization,
    quantizable_layers,
)
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.training.engine import edge_model
from tests import tiny
from tests.export.conftest import calibrated, lively_model, save

Exported = Callable[..., Path]

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

DYNAMIC = LayerDecision(decision="int8", weight_bits=8, activation_bits=8)
EIGHT = LayerDecision(decision="int8", weight_bits=8)
FOUR = LayerDecision(decision="int8", weight_bits=4, group_size=16)
FLOAT = LayerDecision(decision="float", why="a test")
MODES = ("dynamic", "eight", "four", "mixed")
# Products of weights alone round their inputs, block by block; the twin does not. Of dynamic layers
# one step that falls the other way moves the ranges of all that follow.
LEAST_DB = 35.0


def decisions(mode: str) -> Quantization:
    model = lively_model()
    layers = {}
    static = calibrated(lively_model()).layers
    for number, path in enumerate(quantizable_layers(model.blip)):
        decoder = path.startswith("text_decoder") and "crossattention.self" not in path
        layers[path] = {
            "dynamic": DYNAMIC,
            "eight": EIGHT,
            "four": FOUR,
            "mixed": FOUR if decoder else (static[path], DYNAMIC, EIGHT, FLOAT)[number % 4],
        }[mode]
    for path, layer in quantizable_layers(model.blip).items():
        if layers[path] is FOUR and layer.in_features % 16:
            layers[path] = EIGHT
    return Quantization(mode="static" if mode == "mixed" else mode, layers=layers)


@pytest.fixture(scope="session")
def of_mode(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A MODEL folder, quantized in that mode."""
    root = tmp_path_factory.mktemp("modes")

    def make(mode: str) -> Path:
        if not (root / mode).exists():
            decisions(mode).save(save(root / mode, lively_model()))
        return root / mode

    return make


@pytest.fixture(params=["onnx", "openvino"])
def target(request: pytest.FixtureRequest) -> ExportTarget:
    pytest.importorskip(request.param if request.param == "openvino" else "onnxruntime")
    name: ExportTarget = request.param
    return name


def dictated(model: EdgeModel) -> Any:
    ids = tuple(model.tokenizer.prompt_ids("a picture of a red circle"))
    forcing = make_forcing(ids[:4], rows=3, tokens=16, vocabulary=model.tokenizer.vocab_size)
    seen = model.captioner.encode(model.preprocess(list(images()[:1])))
    return forced_logits(model.captioner, seen, forcing)


def images() -> list[Image.Image]:
    return list(pictures(None, 2, seed=7))


def document(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_form_computes_as_its_twin(
    mode: str, target: ExportTarget, of_mode: Callable[[str], Path], exported: Exported
) -> None:
    model = of_mode(mode)
    bundle = exported(model, target)
    reference = edge_model(reference_model(model, target, "int8"))
    found = compare(dictated(reference), dictated(load(bundle)))
    assert found.psnr_db > LEAST_DB
    plain = edge_model(lively_model())
    assert compare(dictated(plain), dictated(load(bundle))).psnr_db < found.psnr_db - 1
    for name, row in document(bundle)["graphs"].items():
        assert row["ops"]["int8"] >= row["int8_layers"] > 0, name
    assert verify(bundle, model).passed


def test_dynamic_steps_are_the_twins_to_the_last_one(tmp_path: Path) -> None:
    import onnxruntime

    model = lively_model()
    apply_quantization(model.blip, decisions("dynamic"))
    graph = VisionGraph(model.blip)
    write_onnx(graph, tmp_path / "vision.onnx")
    pixels = graph.examples()
    with torch.no_grad():
        expected = graph.eval()(*pixels)
    session = onnxruntime.InferenceSession(
        tmp_path / "vision.onnx", providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"pixel_values": pixels[0].numpy()})
    for want, got in zip(expected, found, strict=True):
        assert compare(want.numpy(), got).psnr_db > 100


def test_a_head_whose_width_no_block_divides_still_multiplies_integers(tmp_path: Path) -> None:
    import onnxruntime

    sizes = tiny.config()
    text = replace(sizes.text_config, hidden_size=24, head_dim=8, num_attention_heads=3)
    blip = tiny.lively(replace(sizes, text_config=text))
    layers = dict.fromkeys(quantizable_layers(blip), EIGHT)
    graph = DecoderGraph(apply_quantization(blip, Quantization(mode="weight-only", layers=layers)))
    write_onnx(graph, tmp_path / "decoder.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx", options)
    inputs = graph.examples({"R": 2, "Q": 3, "T": 3, "P": 2})
    with torch.no_grad():
        expected = graph.eval()(*inputs)
    names = [port.name for port in session.get_inputs()]
    found = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    for want, got in zip(expected, found, strict=True):
        assert compare(want.numpy(), got).psnr_db > LEAST_DB
    ran = [node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node]
    assert ran.count("MatMulNBits") == len(graph.int8_layers())
    assert "DequantizeLinear" not in ran


@pytest.mark.parametrize(
    "architecture",
    [
        "BlipForImageTextRetrieval",
        "BlipForQuestionAnswering",
        "BlipForImagesAndTextClassification",
    ],
)
def test_other_tasks_take_every_form(architecture: Architecture, tmp_path: Path) -> None:
    made = tiny.model(["is there a red circle?", "what is above it?"], architecture)
    kinds = (DYNAMIC, EIGHT, FOUR)
    whole = quantizable_layers(made.blip).items()
    layers = {
        path: kinds[number % 3] if layer.in_features % 16 == 0 else DYNAMIC
        for number, (path, layer) in enumerate(whole)
    }
    model = save(tmp_path / "model", made)
    Quantization(mode="dynamic", layers=layers).save(model)
    bundle = export(model, tmp_path / "out", target="onnx", recipe=ExportRecipe(golden=1))
    for row in document(bundle)["graphs"].values():
        assert row["ops"]["int8"] >= row["int8_layers"] == sum(row["forms"].values()) > 0


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("dynamic", {"DynamicQuantizeMatMul"}),
        ("eight", {"MatMulNBits", "GatherBlockQuantized"}),
        ("four", {"MatMulNBits", "GatherBlockQuantized"}),
    ],
)
def test_onnx_runtime_joins_what_is_written(
    mode: str, kinds: set[str], of_mode: Callable[[str], Path], exported: Exported
) -> None:
    graphs = document(exported(of_mode(mode), "onnx"))["graphs"]
    ran = {kind for row in graphs.values() for kind in row["ops"]["by_type"]}
    assert kinds <= ran and "DequantizeLinear" not in ran


@pytest.mark.parametrize(("mode", "bits"), [("dynamic", 8), ("eight", 8), ("four", 4)])
def test_files_hold_integers_and_the_words_once(
    mode: str, bits: int, of_mode: Callable[[str], Path], exported: Exported
) -> None:
    """No matrix of a quantized layer is there in float, in whatever disguise."""
    bundle = exported(of_mode(mode), "onnx")
    layers = quantizable_layers(lively_model().blip)
    words = layers[HEAD].weight.numel()
    for name in ("vision", "decoder"):
        proto = onnx.load(bundle / f"{name}.onnx")
        sizes = [onnx.numpy_helper.to_array(i) for i in proto.graph.initializer]
        integers = sum(a.size for a in sizes if a.dtype in (np.int8, np.uint8))
        floats = max(a.size for a in sizes if a.dtype == np.float32)
        assert floats < (words if name == "decoder" else 48 * 192 + 1)
        paths = [p for p in layers if _runs(p, name)]
        want = sum(layers[p].weight.numel() for p in paths)
        packed = want // 2 if bits == 4 else want
        assert packed <= integers < 1.25 * packed, name


def _runs(path: str, graph: str) -> bool:
    read_once = path.startswith("vision") or "crossattention.self.key" in path
    read_once = read_once or "crossattention.self.value" in path
    return read_once == (graph == "vision")


def test_bundles_shrink_with_their_bits(
    target: ExportTarget,
    folder: Path,
    quantized: Path,
    of_mode: Callable[[str], Path],
    exported: Exported,
) -> None:
    def size(bundle: Path) -> int:
        suffix = "*.bin" if target == "openvino" else "*.onnx"
        return sum(path.stat().st_size for path in bundle.glob(suffix))

    four = size(exported(of_mode("four"), target))
    eight = size(exported(of_mode("eight"), target))
    static = size(exported(quantized, target))
    assert four < eight < size(exported(folder, target, precision="fp32"))
    assert abs(eight - static) < 0.35 * static


def test_openvino_keeps_inputs_of_dynamic_layers_in_float_and_says_so(
    of_mode: Callable[[str], Path], exported: Exported
) -> None:
    pytest.importorskip("openvino")
    notes = document(exported(of_mode("dynamic"), "openvino"))["notes"]
    assert any("dynamic" in note for note in notes)
    assert not document(exported(of_mode("eight"), "openvino"))["notes"]
    assert not document(exported(of_mode("dynamic"), "onnx"))["notes"]


def test_executorch_refuses_every_form(of_mode: Callable[[str], Path], tmp_path: Path) -> None:
    recipe = ExportRecipe(precision="int8")
    with pytest.raises(UsageError, match="executorch bundles are fp32, not int8"):
        export(of_mode("four"), tmp_path / "out", target="executorch", recipe=recipe)


def test_coreml_refuses_4_bits_before_ios_18(
    of_mode: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("coremltools")
    with pytest.raises(UsageError, match="from ios 18 on"):
        export(of_mode("four"), tmp_path / "out", target="coreml")


@pytest.mark.parametrize(("mode", "ios"), [("dynamic", 17), ("eight", 17), ("four", 18)])
def test_coreml_stores_the_same_integers(
    mode: str, ios: int, of_mode: Callable[[str], Path], exported: Exported
) -> None:
    pytest.importorskip("coremltools")
    model = of_mode(mode)
    bundle = exported(model, "coreml", ios=ios)
    reference = edge_model(reference_model(model, "coreml", "int8"))
    found = compare(dictated(reference), dictated(load(bundle)))
    assert found.psnr_db > 50  # what float16 leaves
    for row in document(bundle)["graphs"].values():
        assert row["ops"]["int8"] == row["int8_layers"] > 0
    assert "weights alone" in document(bundle)["notes"][0]


def test_coreml_files_shrink_with_their_bits(
    of_mode: Callable[[str], Path], exported: Exported
) -> None:
    pytest.importorskip("coremltools")
    sizes = [
        sum(
            path.stat().st_size
            for path in exported(of_mode(mode), "coreml", ios=ios).rglob("*.bin")
        )
        for mode, ios in (("four", 18), ("eight", 17))
    ]
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_hold_the_twins_very_numbers(bits: int) -> None:
    """Asked one input at a time, which rounding leaves alone: whole outputs hide one step."""
    linear = nn.Linear(32, 7)
    twin: QuantizedLayer = WeightOnlyLinear.from_linear(linear)
    if bits == 4:
        twin = GroupedLinear.from_linear(linear, 16)
    product, words = head_and_words(twin)
    ids, inputs = torch.arange(7)[None], torch.eye(32)[None]
    for module, given, expected in (
        (product, inputs, twin(inputs)),
        (words, ids, twin.dequantize_weight()[ids]),
    ):
        program = torch.onnx.export(module.eval(), (given,), dynamo=True, verbose=False)
        assert program is not None
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        assert np.abs(found - expected.detach().numpy()).max() < 1e-4

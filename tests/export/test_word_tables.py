"""Word tables that no head shares: integers in the file, through real runtimes as in torch."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from blip_edge import load
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.parity import compare
from blip_edge.exporters.recipe import ExportTarget
from blip_edge.exporters.stage import reference_model
from blip_edge.models.config import Architecture
from blip_edge.models.quantized import LayerDecision, Quantization, quantizable_tables
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.manifest import read_manifest
from blip_edge.training.engine import edge_model
from tests import tiny
from tests.export.conftest import TEXTS, save

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# So many that no other matrix is as large as their table.
WORDS = 4000
TABLE = WORDS * 16  # bytes in 8 bits
ASKED = ["is there a red circle?", "what is above it?", "where is the star?"]
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "coreml": "coremltools"}
# Core ML computes in half precision, OpenVINO in bfloat16 where the processor has it.
LEAST_DB = {"onnx": 100.0, "openvino": 35.0, "coreml": 50.0}
TASKS: dict[str, tuple[Architecture, tuple[str, ...]]] = {
    "retrieval": ("BlipForImageTextRetrieval", ("text", "itm")),
    "vqa": ("BlipForQuestionAnswering", ("question",)),
}
Quantized = Callable[[str, int], Path]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """A MODEL folder of a task whose word table alone is in so many bits."""
    root = tmp_path_factory.mktemp("tables")

    def make(task: str, bits: int) -> Path:
        folder = root / f"{task}-{bits}"
        if not folder.exists():
            model = tiny.model([*TEXTS, *ASKED], TASKS[task][0])
            sizes = model.config
            text = replace(sizes.text_config, vocab_size=WORDS)
            blip = tiny.lively(replace(sizes, text_config=text))
            group = 16 if bits == 4 else None
            decision = LayerDecision(decision="int8", weight_bits=bits, group_size=group)
            layers = dict.fromkeys(quantizable_tables(blip), decision)
            save(folder, model.with_blip(blip))
            Quantization(mode="weight-only", layers=layers).save(folder)
        return folder

    return make


def told(model: EdgeModel, task: str) -> NDArray[Any]:
    """What the model says of texts, as numbers that a wrong word moves."""
    image = next(iter(pictures(None, 1, seed=7)))
    if task == "retrieval":
        matches = model.match(image, ASKED)
        return np.array([(match.itc, match.itm) for match in matches])
    ranked = [model.answer(image, question, ["red", "blue", "two"]) for question in ASKED]
    return np.log([[answer.score for answer in answers] for answers in ranked])


@pytest.mark.parametrize(("task", "bits"), [("retrieval", 8), ("vqa", 4)])
@pytest.mark.parametrize("target", PACKAGES)
def test_words_are_looked_up_as_in_torch(
    target: ExportTarget, task: str, bits: int, quantized: Quantized, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[target])
    model = quantized(task, bits)
    recipe = ExportRecipe(golden=1, ios=18 if bits == 4 else 17)
    bundle = export(model, tmp_path / "out", target=target, recipe=recipe)
    want = told(edge_model(reference_model(model, target, "int8")), task)
    found = told(load(bundle), task)
    assert compare(want, found).psnr_db > LEAST_DB[target]
    if target != "openvino":
        plain = told(edge_model(reference_model(model, target, "fp32")), task)
        assert compare(plain, found).psnr_db < compare(want, found).psnr_db - 1, "rounding shows"
    assert verify(bundle, model).passed
    for name in TASKS[task][1]:
        path = read_manifest(bundle).graph(name).path
        assert _HELD[target](path) == {"float": [], "integers": [TABLE * bits // 8]}


def _in_onnx(path: Path) -> dict[str, list[int]]:
    weights = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    return _split((array.dtype.kind == "f", array.nbytes) for array in weights)


def _in_openvino(path: Path) -> dict[str, list[int]]:
    layers = ElementTree.parse(path).iter("layer")
    constants = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    told = [data.attrib for data in constants if data is not None]
    return _split((each["element_type"].startswith("f"), int(each["size"])) for each in told)


def _in_coreml(path: Path) -> dict[str, list[int]]:
    (weights,) = path.rglob("weight.bin")
    bits = 4 if weights.stat().st_size < TABLE else 8 if weights.stat().st_size < 2 * TABLE else 16
    return {"float": [TABLE * 2] * (bits == 16), "integers": [TABLE * bits // 8] * (bits < 16)}


def _split(weights: Iterable[tuple[bool, int]]) -> dict[str, list[int]]:
    """Bytes of all that is no smaller than the table in 4 bits."""
    large = [(is_float, size) for is_float, size in weights if size >= TABLE // 2]
    return {
        "float": [size for is_float, size in large if is_float],
        "integers": [size for is_float, size in large if not is_float],
    }


_HELD = {"onnx": _in_onnx, "openvino": _in_openvino, "coreml": _in_coreml}

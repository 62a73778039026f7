"""Core ML bundles whose inputs are integers too, and whose graphs share one file.

One export shows both: of a model with every tower, in iOS 18's form, cache as state.
"""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge import load
from blip_edge.artifact import folder_bytes
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.exporters import ExportRecipe, coreml_target, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.candidates import HEAD_IN_FLOAT, WEIGHT_ONLY
from blip_edge.exporters.coreml_functions import join_functions
from blip_edge.exporters.parity import compare
from blip_edge.exporters.running import Operators
from blip_edge.exporters.stage import reference_model
from blip_edge.models.quantized import HEAD, LayerDecision, Quantization, quantizable_layers
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.manifest import Port, read_manifest
from blip_edge.runtime.mil import MilProgram
from blip_edge.training.engine import edge_model
from tests import tiny
from tests.export.conftest import TEXTS, ranged, save

load_spec = pytest.importorskip("coremltools").utils.load_spec

TOGETHER = ("text", "itm", "decoder")
# Layers whose inputs are rounded, beside the head: in the first block of each tower, in steps so
# wide that what half precision leaves moves few inputs from one to the next.
STATIC, WIDER = re.compile(r"layers?\.0\.(self_attn\.qkv|attention\.self\.query|intermediate)"), 8
NEAR_DB, FAR_DB = 40.0, 32.0  # the bundle from its twin, and from one that rounds weights alone


def images() -> list[Image.Image]:
    return list(pictures(None, 3, seed=7))


def everything(model: EdgeModel) -> dict[str, Any]:
    """Numbers that every graph has a part in."""
    ids, mask = model.tokenizer.encode(list(TEXTS))
    seen = model.engine.encode(model.preprocess(images()[:1]))
    engine: Any = model.engine
    rows = np.arange(2, dtype=np.int32)
    session = engine.start(seen, 2)
    steps = [session.step(np.full((2, 1), token, np.int32), rows).copy() for token in (2, 9, 7)]
    return {
        "image": engine.embed_image(seen),
        "text": engine.embed_text(ids, mask),
        "itm": engine.match(seen, ids, mask),
        "decoder": np.stack(steps),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL folder with every tower, its layers static or weight-only."""
    made = tiny.model(list(TEXTS), "BlipForPreTraining")
    folder = save(tmp_path_factory.mktemp("static") / "model", made)
    seen = tiny.model(list(TEXTS), "BlipForPreTraining")
    found = ranged(seen, lambda: everything(edge_model(seen)))
    layers = {path: _decided(path, layer) for path, layer in found.layers.items()}
    Quantization(mode="static", layers=layers).save(folder)
    return folder


def _decided(path: str, layer: LayerDecision) -> LayerDecision:
    if path == HEAD:
        return layer
    if not STATIC.search(path):
        return LayerDecision(decision="int8", weight_bits=8)
    return replace(layer, input_scale=WIDER * (layer.input_scale or 1), input_zero_point=128)


@pytest.fixture(scope="module")
def both(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bundle, and a folder with the graphs' files as they were before they were joined."""
    root = tmp_path_factory.mktemp("bundles")

    def kept(graphs: Any, folder: Path) -> Any:
        shutil.copytree(folder, root / "alone")
        return join_functions(graphs, folder)

    recipe = ExportRecipe(
        golden=1, ios=18, activations="int8", multifunction=True, teacher_forced=8
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreml_target, "join_functions", kept)
        return export(model, root / "joined", target="coreml", recipe=recipe), root / "alone"


@pytest.fixture(scope="module")
def bundle(both: tuple[Path, Path]) -> Path:
    return both[0]


def manifest(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return found


def test_inputs_are_rounded_as_the_twins_are(model: Path, bundle: Path) -> None:
    twin, weights_alone = (
        everything(edge_model(reference_model(model, "coreml", "int8", form)))
        for form in (HEAD_IN_FLOAT, WEIGHT_ONLY)
    )
    for name, found in everything(load(bundle)).items():
        assert compare(twin[name], found).psnr_db > NEAR_DB, name
        assert compare(weights_alone[name], found).psnr_db < FAR_DB, name


def test_the_manifest_tells_layers_with_rounded_inputs_from_others(bundle: Path) -> None:
    document = manifest(bundle)
    static = {"vision": 1, "text": 2, "itm": 2, "decoder": 2}
    for name, row in document["graphs"].items():
        assert row["forms"] == {
            "static": static[name],
            "weight-only 8": row["int8_layers"] - static[name],
        }, "the head's inputs stay in float"
        ops = row["ops"]
        assert (ops["int8"], ops["int8_inputs"]) == (row["int8_layers"], static[name])
        assert ops["by_type"]["quantize"] == ops["by_type"]["dequantize"] == static[name]
    assert document["form"] == HEAD_IN_FLOAT
    assert "inputs of static layers are rounded" in document["notes"][0]


def test_a_bundle_with_both_is_verified(model: Path, bundle: Path) -> None:
    found = verify(bundle, model)
    assert found.passed
    [decoder] = [one for one in found.checks if one.name == "int8 coverage of decoder"]
    assert "with their inputs" in decoder.detail


def test_a_graph_that_rounds_fewer_inputs_than_it_says_is_told() -> None:
    row = {"int8_layers": 3, "forms": {"static": 2, "weight-only 8": 1}}
    assert Operators(3, 0, {}, 2).missing(row) == []
    assert Operators(3, 0, {}, 1).missing(row) == ["only 1 of 2 layers round their inputs"]
    assert Operators(2, 1, {}, 2).missing(row) == ["only 2 of 3 layers run in 8 bits or fewer"]
    assert Operators(3, 0, {}).missing(row) == [], "other runtimes do not tell"


def test_functions_give_what_files_of_their_own_give(both: tuple[Path, Path]) -> None:
    bundle, alone = both
    graphs = read_manifest(bundle).graphs
    assert graphs["vision"].function is None
    for name in TOGETHER:
        joined = MilProgram(graphs[name].path, graphs[name].function)
        single = MilProgram(alone / f"{name}.mlpackage")
        assert (joined.inputs, joined.outputs) == (single.inputs, single.outputs)
        feeds = {port: _some(shape) for port, shape in graphs[name].inputs.items()}
        expected = single(feeds, single.make_state())
        for port, found in joined(feeds, joined.make_state()).items():
            np.testing.assert_array_equal(found, expected[port])


def _some(port: Port) -> Any:
    random, shape = np.random.default_rng(0), [int(size) for size in port.shape]
    drawn = random.normal(size=shape).astype(np.float32)
    return (drawn > 0).astype(np.int32) if port.dtype == "int32" else drawn


def test_weights_in_common_are_in_the_file_once(both: tuple[Path, Path]) -> None:
    bundle, alone = both
    assert sorted(path.name for path in bundle.glob("*.mlpackage")) == [
        "text_itm_decoder.mlpackage",
        "vision.mlpackage",
    ]
    joined = _weights(bundle / "text_itm_decoder.mlpackage")
    separate = [_weights(alone / f"{name}.mlpackage") for name in TOGETHER]
    assert max(separate) < joined < 0.6 * sum(separate)
    document = manifest(bundle)
    row = document["graphs"]["itm"]
    assert row["bytes"] == folder_bytes(bundle / row["file"])
    assert "function `itm` of `text_itm_decoder.mlpackage`" in (bundle / "README.md").read_text()


def _weights(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*.bin"))


def test_a_joined_file_still_says_what_it_is(bundle: Path) -> None:
    description = load_spec(str(bundle / "text_itm_decoder.mlpackage")).description
    assert [one.name for one in description.functions] == list(TOGETHER)
    assert all(port.shortDescription for one in description.functions for port in one.input)
    said = description.metadata
    assert said.author and said.license and said.versionString
    assert "match" in said.shortDescription
    assert said.userDefined["blip_edge.tasks"] == "caption, retrieval"


def test_a_function_that_a_file_has_not_is_named(bundle: Path) -> None:
    path = bundle / "text_itm_decoder.mlpackage"
    with pytest.raises(ArtifactError, match="no function 'main', but decoder, itm, text"):
        MilProgram(path, "main")


def test_a_mac_is_asked_for_the_function(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here coremltools opens the file without Core ML below it, which is enough for this."""
    from blip_edge.runtime import coreml

    monkeypatch.setattr("blip_edge.runtime.coreml.sys.platform", "darwin")
    for name, graph in read_manifest(bundle).graphs.items():
        model: Any = coreml._program(graph)
        assert model._model.function_name == graph.function
        assert model._keeps == (name == "decoder")


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny.model(list(TEXTS), "BlipForConditionalGeneration")
    folder = save(tmp_path_factory.mktemp("dynamic") / "model", made)
    decision = LayerDecision(decision="int8", weight_bits=8, activation_bits=8)
    layers = dict.fromkeys(quantizable_layers(made.blip), decision)
    Quantization(mode="dynamic", layers=layers).save(folder)
    return folder


def test_what_has_no_ranges_cannot_round_inputs(
    dynamic: Path, folder: Path, tmp_path: Path
) -> None:
    recipe = ExportRecipe(activations="int8")
    with pytest.raises(ArtifactError, match=r"has dynamic\).*`blip-edge quantize --mode static`"):
        export(dynamic, tmp_path / "out", target="coreml", recipe=recipe)
    with pytest.raises(ArtifactError, match=r"was not quantized.*run `blip-edge quantize`"):
        export(folder, tmp_path / "out", target="coreml", recipe=recipe)


@pytest.mark.parametrize(
    ("target", "told", "message"),
    [
        ("onnx", {"activations": "int8"}, "for Core ML in int8, not for onnx in int8"),
        ("coreml", {"activations": "int8", "precision": "fp16"}, "not for coreml in fp16"),
        ("onnx", {"multifunction": True, "ios": 18}, "onnx has a file for each graph"),
    ],
)
def test_what_other_bundles_have_not_is_refused(
    target: Any, told: dict[str, Any], message: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export(model, tmp_path / "out", target=target, recipe=ExportRecipe(**told))

"""A bundle is what the export wrote, or it is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError
from blip_edge.runtime import manifest as manifests
from blip_edge.runtime.manifest import graph_bytes, graph_sha256, read_manifest
from tests.unit.runtime import toy

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in ("vision", "decoder"):
        (tmp_path / f"{name}.onnx").write_bytes(name.encode())
    return toy.write_bundle(tmp_path, "onnx", {n: f"{n}.onnx" for n in ("vision", "decoder")})


def edit(bundle: Path, change: Change) -> None:
    document = read_json(bundle / "manifest.json")
    change(document)
    write_json(bundle / "manifest.json", document)


def test_a_manifest_is_read(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert (manifest.target, manifest.precision, manifest.tasks) == ("onnx", "fp32", ("caption",))
    assert manifest.graph("vision").path == bundle / "vision.onnx"
    assert manifest.graph("decoder").inputs["past_key_0"].shape == ("Q", 2, "P", 3)
    assert manifest.cache.layers[0].head_dim == 3
    assert manifest.generation.max_length == toy.LENGTH
    with pytest.raises(ArtifactError, match="no text graph"):
        manifest.graph("text")


def test_a_changed_graph_is_named(bundle: Path) -> None:
    (bundle / "decoder.onnx").write_bytes(b"decodex")
    with pytest.raises(ArtifactError, match=r"decoder\.onnx was changed after export: sha256"):
        read_manifest(bundle)
    assert read_manifest(bundle, check=False).graph("decoder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "format_version 2, this version reads 1"),
        (lambda m: m.update(target="tflite"), "unknown target 'tflite'"),
        (lambda m: m.pop("cache"), "'cache' is missing"),
        (lambda m: m["decode"].pop("prompt_ids"), "'prompt_ids' is missing"),
        (lambda m: m.update(graphs=[]), "wrong kind"),
        (lambda m: m["graphs"]["vision"].update(file="../vision.onnx"), "leaves the folder"),
        (lambda m: m.update(tokenizer="/etc/passwd"), "leaves the folder"),
        (lambda m: m["graphs"]["vision"].update(file="v.onnx"), r"v\.onnx is missing"),
        (lambda m: m["graphs"]["vision"].update(inputs={}), "vision has no inputs"),
        (lambda m: m["graphs"]["decoder"].update(outputs={}), "decoder has no inputs or no out"),
        (lambda m: m["graphs"]["decoder"].update(engine="openvino"), "every graph but the decoder"),
        (lambda m: m["preprocess"].update(size=32), r"pictures of 32x32, but pixel_values is \[1"),
        (lambda m: m["preprocess"].update(size=-1), "pictures of -1 pixels"),
        (lambda m: m["preprocess"]["size"].update(width=8.5, height=8.5), "pictures of 8.5 pixels"),
        (lambda m: m["preprocess"].update(image_mean=["a", "b", "c"]), "are not numbers"),
        (lambda m: m["preprocess"].update(image_std=[0.5, 0, 0.5]), "image_std is 0"),
        (lambda m: m["decode"].update(eos_token_id=10**6), "the token 1000000 is none of the dec"),
        (lambda m: m["decode"].update(pad_token_id=-7), "the token -7 is none"),
        (lambda m: m["cache"].update(layers=[]), r"cache\.layers \[\] are not the decoder's"),
        (lambda m: m["cache"]["layers"][0].update(self_heads=7), r"\[\(7, 3\)\] are not the dec"),
    ],
)
def test_a_damaged_manifest_is_named(bundle: Path, change: Change, message: str) -> None:
    edit(bundle, change)
    with pytest.raises(ArtifactError, match=message):
        read_manifest(bundle)


@pytest.mark.parametrize("text", ["[]", "{", ""])
def test_a_manifest_that_is_none_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_manifest(bundle)


def test_a_digest_covers_everything_that_holds_a_graph(tmp_path: Path) -> None:
    package = tmp_path / "vision.mlpackage"
    (package / "Data").mkdir(parents=True)
    weights = {package: package / "Data" / "weight.bin"}
    (tmp_path / "decoder.xml").write_text("<net/>")
    weights[tmp_path / "decoder.xml"] = tmp_path / "decoder.bin"
    for graph, file in weights.items():
        file.write_bytes(b"1")
        before = graph_sha256(graph)
        file.write_bytes(b"2")
        assert graph_sha256(graph) != before


def test_graphs_that_share_a_file_are_told_apart_and_it_is_read_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = read_json(bundle / "manifest.json")
    shared = document["graphs"]["vision"] | {"bytes": 6}
    for name, row in document["graphs"].items():
        row |= {key: shared[key] for key in ("file", "sha256", "bytes")} | {"function": name}
    write_json(bundle / "manifest.json", document)
    hashed: list[Path] = []

    def noted(path: Path) -> str:
        hashed.append(path)
        return graph_sha256(path)

    monkeypatch.setattr(manifests, "graph_sha256", noted)
    graphs = read_manifest(bundle).graphs
    assert [graph.function for graph in graphs.values()] == ["vision", "decoder"]
    assert hashed == [bundle / "vision.onnx"] and graph_bytes(document) == 6
    (bundle / "vision.onnx").write_bytes(b"visiom")
    with pytest.raises(ArtifactError, match=r"vision\.onnx was changed after export"):
        read_manifest(bundle)


def test_openvino_weights_that_are_gone_are_named(tmp_path: Path) -> None:
    for name in ("vision", "decoder"):
        (tmp_path / f"{name}.xml").write_text("<net/>")
        (tmp_path / f"{name}.bin").write_bytes(b"1")
    toy.write_bundle(tmp_path, "openvino", {n: f"{n}.xml" for n in ("vision", "decoder")})
    (tmp_path / "vision.bin").unlink()
    with pytest.raises(ArtifactError, match=r"vision\.bin is missing"):
        read_manifest(tmp_path)

"""Graphs whose weights one protobuf cannot hold: a second file, guarded and found as the first."""

import shutil
from pathlib import Path

import onnx
import pytest

from blip_edge import load
from blip_edge.errors import ArtifactError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters import onnx as writer
from blip_edge.runtime.manifest import read_manifest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def large(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle exported as if 20 kB were all that a file can hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_MOST_BYTES", 20_000)
        output = tmp_path_factory.mktemp("large") / "bundle"
        return export(folder, output, target="onnx", recipe=ExportRecipe(golden=1))


def test_weights_are_in_one_file_beside_the_graph(large: Path) -> None:
    assert {path.name for path in large.glob("*.onnx*")} == {
        "vision.onnx",
        "vision.onnx.data",
        "decoder.onnx",
        "decoder.onnx.data",
    }
    for name in ("vision", "decoder"):
        proto = onnx.load(large / f"{name}.onnx", load_external_data=False)
        places = {
            entry.value
            for weight in proto.graph.initializer
            for entry in weight.external_data
            if entry.key == "location"
        }
        assert places == {f"{name}.onnx.data"}, "no folder: the bundle can be moved"
    row = read_manifest(large).document["graphs"]["vision"]
    files = (large / "vision.onnx", large / "vision.onnx.data")
    assert row["bytes"] == sum(path.stat().st_size for path in files)


def test_a_moved_bundle_still_computes_and_verifies(
    large: Path, folder: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(large, tmp_path / "elsewhere"))
    assert verify(moved, folder).passed
    assert "decoder.onnx.data" in (moved / "SHA256SUMS").read_text()


@pytest.mark.parametrize("damage", ["change", "remove", "swap"])
def test_weights_that_are_not_the_exported_ones_are_refused(
    damage: str, large: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(large, tmp_path / "broken"))
    data = broken / "decoder.onnx.data"
    if damage == "change":
        data.write_bytes(b"\1" + data.read_bytes()[1:])
    elif damage == "remove":
        data.unlink()
    else:
        shutil.copy(broken / "vision.onnx.data", data)
    with pytest.raises(ArtifactError, match=r"decoder\.onnx was changed after export"):
        load(broken)


def test_openvino_reads_such_graphs_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(writer, "_MOST_BYTES", 20_000)
    bundle = export(folder, tmp_path / "out", target="openvino", recipe=ExportRecipe(golden=1))
    assert verify(bundle).passed and not list(bundle.glob("*.data"))

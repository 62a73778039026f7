"""The smallest bundle that can be timed: toy graphs, and pictures to caption."""

from pathlib import Path
from typing import Any

from PIL import Image

from blip_edge.artifact import read_json, write_json
from blip_edge.runtime.sums import write_sums
from tests.unit.runtime import toy
from tests.unit.runtime.toy_onnx import write_onnx


def write_toy(folder: Path) -> Path:
    """An ONNX bundle of the toy captioner in `folder`, with two golden pictures."""
    folder.mkdir()
    write_onnx(folder)
    toy.write_bundle(folder, "onnx", {"vision": "vision.onnx", "decoder": "decoder.onnx"})
    manifest = read_json(folder / "manifest.json")
    for graph in manifest["graphs"].values():
        graph["bytes"] = (folder / graph["file"]).stat().st_size
    write_json(folder / "manifest.json", manifest)
    golden = folder / "golden"
    golden.mkdir()
    rows: list[dict[str, Any]] = []
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (20, 12), colour).save(golden / name)
        rows.append({"task": "caption", "images": [name], "texts": []})
    write_json(golden / "golden.json", rows)
    write_sums(folder)
    return folder

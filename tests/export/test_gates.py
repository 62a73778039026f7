"""The gates of an export, one fault at a time, and what guards a bundle's files afterwards."""

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge.artifact import read_json
from blip_edge.cli import main
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError, ToleranceError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters import measure as measuring
from blip_edge.exporters.coreml_target import CoreMLTarget
from blip_edge.exporters.outputs import first_off, misdeclared, not_numbers
from blip_edge.exporters.running import open_graph
from blip_edge.exporters.task_metric import MetricGate, TaskMetric
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.manifest import Graph, Port
from blip_edge.runtime.sums import renew_sum, write_sums

pytest.importorskip("coremltools")  # the target that converts fastest

Exported = Callable[..., Path]
Outputs = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures to validate on and four to test on."""
    folder = tmp_path_factory.mktemp("data")
    colours = np.random.default_rng(0)
    (folder / "images").mkdir()
    for split, count in {"val": 6, "test": 4}.items():
        rows = []
        for number in range(count):
            name = f"{split}{number}.png"
            pixels = colours.integers(0, 256, (2, 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / "images" / name)
            words = ["a picture of a red circle", f"a picture of a {'blue' * (number + 1)} square"]
            rows.append({"image": name, "caption": words, "image_id": number})
        (folder / f"caption_{split}.json").write_text(json.dumps(rows))
    described = {"name": "drawn", "version": "1", "license": "CC0-1.0"}
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def quick(folder: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converting takes longest: graphs that were converted once are taken again."""
    made = exported(folder, "coreml", precision="fp32")

    def copied(self: CoreMLTarget, graph: Any, path: Path, *how: Any) -> None:
        shutil.copytree(made / path.name, path)

    monkeypatch.setattr(CoreMLTarget, "write", copied)


def broken(
    monkeypatch: pytest.MonkeyPatch, graph: str, change: Callable[[Outputs], Outputs]
) -> None:
    """Let `change` be what a runtime does to the outputs of one graph."""

    class Running:
        def __init__(self, manifest: Any, name: str) -> None:
            self._running = open_graph(manifest, name)
            self._changed = name == graph

        def __call__(self, feeds: Any) -> Outputs:
            outputs = {name: np.array(value) for name, value in self._running(feeds).items()}
            return change(outputs) if self._changed else outputs

        def operators(self) -> Any:
            return self._running.operators()

    monkeypatch.setattr(measuring, "open_graph", Running)


def _renamed(outputs: Outputs) -> Outputs:
    outputs["logit"] = outputs.pop("logits")
    return outputs


def _wider(outputs: Outputs) -> Outputs:
    return {**outputs, "logits": np.pad(outputs["logits"], ((0, 0), (0, 1)))}


def _nan(outputs: Outputs) -> Outputs:
    outputs["present_value_1"].flat[:3] = [np.nan, np.inf, 1.0]
    return outputs


def _layer_1(outputs: Outputs) -> Outputs:
    return {**outputs, **{n: outputs[n] * 1.5 for n in ("logits", "present_key_1")}}


def _head(outputs: Outputs) -> Outputs:
    return {**outputs, "logits": outputs["logits"] * 1.5}


def _tower(outputs: Outputs) -> Outputs:
    return {name: value * 1.5 for name, value in outputs.items()}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("graph", "change", "message"),
    [
        ("decoder", _renamed, "decoder: the output logits is missing"),
        ("decoder", _wider, r"decoder: logits is 3x\d+, declared 3x\d+"),
        ("decoder", _nan, r"decoder present_value_1: 2 of \d+ values are NaN or infinite"),
        ("decoder", _layer_1, r"decoder logits: max difference .* first off in layer 1"),
        ("decoder", _head, r"decoder logits: max difference .* look behind the last layer's"),
        ("vision", _tower, r"vision cross_key_0: .* every layer: look at what the first one reads"),
    ],
)
def test_a_broken_graph_is_named_with_what_is_wrong(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    graph: str,
    change: Callable[[Outputs], Outputs],
    message: str,
) -> None:
    broken(monkeypatch, graph, change)
    recipe = ExportRecipe(precision="fp32", golden=1)
    with pytest.raises(ToleranceError, match=message):
        export(folder, tmp_path / "out", target="coreml", recipe=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    read_json(tmp_path / "out.rejected" / "manifest.json")


def test_names_shapes_and_types_are_held_against_the_manifest() -> None:
    ports = {"a": Port((1, "R"), "float32"), "b": Port((2,), "float32"), "c": Port((1,), "float32")}
    graph = Graph(Path("x.onnx"), "", {}, ports)
    right = {name: np.zeros(size, np.float32) for name, size in (("a", (1, 3)), ("b", 2), ("c", 1))}
    assert misdeclared(graph, right, right) == []
    wrong: Outputs = {
        "a": np.zeros((1, 4), np.float32),
        "b": np.zeros(2, np.float16),
        "d": np.zeros(1),
    }
    assert misdeclared(graph, right, wrong) == [
        "the output c is missing",
        "there is an output d that nobody declared",
        "a is 1x4, torch's 1x3",
        "b is float16, declared float32",
    ]
    assert misdeclared(graph, right, {**right, "a": np.zeros((2, 3), np.float32)}) == [
        "a is 2x3, declared 1xR"
    ]
    assert not_numbers({"a": np.asarray([1, np.nan, -np.inf])}) == [
        "a: 2 of 3 values are NaN or infinite"
    ]


def test_the_first_layer_that_is_off_is_told() -> None:
    outputs = ["logits", *(f"present_{kind}_{n}" for n in range(12) for kind in ("key", "value"))]
    assert first_off(outputs, ["logits", "present_key_10", "present_key_9"]).endswith("layer 9")
    assert first_off(["image_embeds"], ["image_embeds"]) == ""


@pytest.mark.usefixtures("quick")
def test_with_data_the_metric_is_compared_and_noted(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    recipe = ExportRecipe(precision="fp32", golden=1)
    out = export(folder, tmp_path / "out", target="coreml", recipe=recipe, data=data)
    found = read_json(out / "manifest.json")["task_metrics"]["caption"]
    assert (found["name"], found["split"], found["items"]) == ("CIDEr", "val", 6)
    assert found["data"] == {"name": "drawn", "sha256": Dataset.open(data).digest()}
    assert (found["bundle"], found["share"]) == (pytest.approx(found["torch"]), 1.0)
    assert "On 6 items of drawn's val: CIDEr" in (out / "README.md").read_text()


@pytest.mark.usefixtures("quick")
def test_a_bundle_that_is_worse_on_data_is_rejected(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(
        self: MetricGate, task: Any, bundle: EdgeModel, torch: EdgeModel, progress: Any
    ) -> TaskMetric:
        assert bundle.engine is not torch.engine
        named = {"name": self.dataset.name, "sha256": "0"}
        return TaskMetric("CIDEr", "val", self.items, named, 100.0, 98.9)

    monkeypatch.setattr(MetricGate, "measure", worse)
    message = (
        r"caption: CIDEr 98\.9 instead of torch's 100 on 200 items .* 98\.9% \(at least 99\.0%"
    )
    recipe = ExportRecipe(precision="fp32", golden=1)
    with pytest.raises(ToleranceError, match=message):
        export(folder, tmp_path / "out", target="coreml", recipe=recipe, data=data)
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    easy = ExportRecipe(precision="fp32", golden=1, metric_share=0.98)
    export(folder, tmp_path / "out", target="coreml", recipe=easy, data=data)
    off = ExportRecipe(precision="fp32", golden=1, gate_items=0)
    out = export(folder, tmp_path / "off", target="coreml", recipe=off, data=data)
    assert read_json(out / "manifest.json")["task_metrics"] == {}


def test_a_metric_gate_measures_the_bundle_and_allows_for_chance(data: Path) -> None:
    gate = MetricGate(Dataset.open(data), 200, 0.99)

    def metric(items: int, torch: float, bundle: float) -> TaskMetric:
        return TaskMetric("CIDEr", "val", items, {"name": "d"}, torch, bundle)

    assert gate.explain("caption", metric(200, 100, 99.01)) == []
    assert gate.explain("caption", metric(1000, 100, 98.9)) != []
    assert gate.explain("caption", metric(20, 100, 91)) == []
    assert gate.explain("caption", metric(20, 100, 89)) != []
    assert gate.explain("caption", metric(200, 0, 0)) == []

    class Saying:
        def __init__(self, *words: str) -> None:
            self.words = words

        def caption(self, images: list[Any], **how: Any) -> list[Any]:
            return [type("Said", (), {"text": text})() for text in self.words]

    right = Saying(*(f"a picture of a {'blue' * n} square" for n in range(1, 7)))
    found = gate.measure("caption", Saying(*["a table"] * 6), right)  # type: ignore[arg-type]
    assert found is not None and found.torch > 50 > found.bundle and found.items == 6


@pytest.fixture(scope="module")
def _made(folder: Path, exported: Exported) -> Path:
    return exported(folder, "coreml", precision="fp32")


@pytest.fixture
def bundle(_made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(_made, tmp_path / "bundle"))


def _flips(bundle: Path) -> Iterator[tuple[Path, int, int]]:
    chance = random.Random(4)
    for path in sorted(bundle.rglob("*")):
        if path.is_file():
            for _ in range(4):
                yield path, chance.randrange(path.stat().st_size), 1 << chance.randrange(8)


def test_one_flipped_bit_in_any_file_is_found_and_the_file_is_named(bundle: Path) -> None:
    found = verify(bundle)
    files = [path for path in bundle.rglob("*") if path.is_file()]
    assert found.checks[0].detail == f"{len(files) - 1} files unchanged"
    names = {path.relative_to(bundle).parts[0] for path, *_ in _flips(bundle)}
    assert {"README.md", "golden", "manifest.json", "provenance.json", "SHA256SUMS"} <= names
    for path, place, bit in _flips(bundle):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[place] ^= bit
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError) as refused:
            verify(bundle)
        assert path.name in str(refused.value), (path, place, bit)
        path.write_bytes(whole)
    verify(bundle)


def test_a_flipped_bit_ends_the_command_line_with_3(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = bundle / "README.md"
    card.write_bytes(card.read_bytes()[:-1] + b"!")
    monkeypatch.setattr("sys.argv", ["blip-edge", "verify", str(bundle)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    assert f"{card} was changed after export" in capsys.readouterr().err


def test_missing_files_are_named_and_those_rightly_changed_are_renewed(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"manifest\.json was changed after export"):
        verify(bundle)
    renew_sum(bundle, "manifest.json")
    verify(bundle)
    (bundle / "README.md").unlink()
    with pytest.raises(ArtifactError, match=r"README\.md is missing"):
        verify(bundle)
    write_sums(bundle)
    verify(bundle)
    (bundle / "SHA256SUMS").unlink()
    with pytest.raises(ArtifactError, match="SHA256SUMS is missing; export again"):
        verify(bundle)
    renew_sum(bundle, "manifest.json")
    assert not (bundle / "SHA256SUMS").exists()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_reads_the_digests(bundle: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=bundle, check=True)

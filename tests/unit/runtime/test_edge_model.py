"""Pictures in, captions out, over the formula."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.load import load
from tests.unit.runtime import toy
from tests.unit.runtime.toy_onnx import write_onnx


@pytest.fixture
def model() -> EdgeModel:
    return EdgeModel(toy.ToyEngine(), toy.tokenizer(), Preprocess(size=toy.SIDE), toy.generation())


def pictures(folder: Path) -> list[Path]:
    paths = [folder / f"{n}.png" for n in range(3)]  # one more than the engine takes at once
    for n, path in enumerate(paths):
        Image.new("RGB", (9, 7), (250 * (n == 0), 250 * (n == 1), 99)).save(path)
    return paths


def test_a_list_gives_a_list_and_one_gives_one(model: EdgeModel, tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    captions = model.caption(paths)
    assert [model.caption(path) for path in paths] == captions
    assert model.caption(str(paths[0])) == captions[0]
    assert model.caption(Image.open(paths[0]).convert("RGB")) == captions[0]
    assert model.caption([]) == []


def test_the_prompt_is_not_in_the_text(model: EdgeModel, tmp_path: Path) -> None:
    caption = model.caption(pictures(tmp_path)[0])
    prompt = toy.tokenizer().prompt_ids(toy.PROMPT)
    assert list(caption.token_ids[: len(prompt)]) == prompt
    assert caption.text == toy.tokenizer().decode(caption.token_ids[len(prompt) :])
    assert caption.text and "picture of" not in caption.text
    assert caption.score < 0


def test_lengths_count_the_prompt(model: EdgeModel, tmp_path: Path) -> None:
    path = pictures(tmp_path)[0]
    assert len(model.caption(path, max_length=8).token_ids) <= 8
    with pytest.raises(UsageError, match="counts the prompt, which has 5 tokens"):
        model.caption(path, max_length=5)


def test_what_is_neither_model_nor_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is a data folder"):
        load(tmp_path)
    with pytest.raises(ArtifactError):
        load(tmp_path / "nothing")


def test_a_bundle_for_other_tasks_or_words_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path)
    graphs = {name: f"{name}.onnx" for name in ("vision", "decoder")}
    toy.write_bundle(tmp_path, "onnx", graphs, tasks=["vqa"])
    with pytest.raises(ArtifactError, match="cannot caption pictures; it was trained to answer"):
        load(tmp_path).caption(Image.new("RGB", (8, 8)))
    document = read_json(tmp_path / "manifest.json")
    document["tasks"] = ["caption"]
    document["decode"]["prompt_ids"][1] += 1
    write_json(tmp_path / "manifest.json", document)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json was changed after export"):
        load(tmp_path)


def test_importing_the_package_imports_nothing_heavy() -> None:
    engines = "torch transformers onnxruntime openvino coremltools scipy PIL.JpegImagePlugin"
    heavy = f"numpy PIL tokenizers {engines}"
    code = (
        "import sys, blip_edge; assert blip_edge.__version__; heavy = sys.argv[1].split();"
        "print([m for m in heavy if m in sys.modules]);"
        "blip_edge.load; print([m for m in heavy if m in sys.modules]);"
        "import blip_edge.runtime.onnx, blip_edge.runtime.openvino, blip_edge.runtime.coreml;"
        "print([m for m in sys.argv[2].split() if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, heavy, engines], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:3] == ["[]", "[]", "[]"]


def test_an_open_bundle_has_imported_its_own_engine_alone(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path)
    toy.write_bundle(tmp_path, "onnx", {n: f"{n}.onnx" for n in ("vision", "decoder")})
    others = "torch transformers openvino coremltools scipy onnx pandas PIL.JpegImagePlugin"
    code = (
        "import sys; from blip_edge import load; load(sys.argv[1]);"
        "print([m for m in sys.argv[2].split() if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path), others]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
